package dermedge.core;

import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/**
 * What the ladder must still know after the process died: the rung that it was trying, the rungs that killed it, the
 * decision. A native crash cannot be caught, only found again.
 *
 * <p>A marker that was left behind is a suspicion: swiping the app away, or a phone short of memory, leaves the same. Two
 * processes in a row that ended on one rung are a crash. So a driver that does crash ends the app twice, which was
 * preferred to an accelerator that is lost because somebody was in a hurry.
 *
 * <p>Everything belongs to one situation (model, app, library, phone); in another one it is forgotten.
 */
public final class LadderStore {
    /** An accepted rung, and why no better one was. */
    static final class Decided {
        final Rung rung;
        final List<LadderReport.Step> failed = new ArrayList<LadderReport.Step>();

        Decided(Rung rung) {
            this.rung = rung;
        }
    }

    private static final Set<String> VERDICTS = new HashSet<String>();

    static {
        for (LadderReport.Verdict verdict : LadderReport.Verdict.values()) {
            VERDICTS.add(verdict.name());
        }
    }

    private final File trying;
    private final File suspected;
    private final File crashed;
    private final File decided;
    private final String situation;

    /**
     * Turns a leftover marker into a suspicion, and a second one in a row into a crash.
     *
     * @param folder private to the app; made when missing
     * @param situation one line: model sha256, app version, library version, build fingerprint of the phone
     */
    public LadderStore(File folder, String situation) {
        if (!folder.isDirectory() && !folder.mkdirs()) {
            throw new EdgeException(EdgeException.Code.USAGE, folder + ": cannot be made", "", "a private folder", "");
        }
        this.trying = new File(folder, "trying");
        this.suspected = new File(folder, "suspected");
        this.crashed = new File(folder, "crashed");
        this.decided = new File(folder, "decided");
        this.situation = situation.replace('\n', ' ') + "\n";
        String rung = read(trying);
        if (!rung.isEmpty()) {
            if (rung.equals(read(suspected))) {
                write(crashed, read(crashed) + rung + "\n");
            }
            write(suspected, rung);
        }
        delete(trying);
    }

    /** Writes the marker to the disk, before anything native is called. */
    void begin(Rung rung) {
        write(trying, rung.name());
    }

    /** The process lives. */
    void end() {
        delete(trying);
    }

    /** A whole climb was survived, whatever came of its rungs: the next marker is again the first in a row. */
    void survived() {
        delete(suspected);
    }

    /** Whether two processes in a row ended on this rung. */
    boolean crashedOn(Rung rung) {
        return ("\n" + read(crashed)).contains("\n" + rung.name() + "\n");
    }

    /** What was accepted for this request, null when nothing was. */
    Decided decision(String request) {
        String[] lines = read(decided).split("\n");
        if (lines.length < 2 || !lines[0].equals(request) || rung(lines[1]) == null) {
            return null;
        }
        Decided decision = new Decided(rung(lines[1]));
        for (int i = 2; i < lines.length; i++) {
            String[] step = lines[i].split("\t", 3);
            Rung better = rung(step[0]);
            if (step.length < 3 || better == null || !VERDICTS.contains(step[1])) {
                return null;
            }
            decision.failed.add(
                    new LadderReport.Step(better, LadderReport.Verdict.valueOf(step[1]), step[2], Double.NaN));
        }
        return decision;
    }

    private static Rung rung(String name) {
        for (Rung rung : Rung.values()) {
            if (rung.name().equals(name)) {
                return rung;
            }
        }
        return null;
    }

    /** @param failed the better rungs, and why each was passed over */
    void decide(String request, Rung rung, Collection<LadderReport.Step> failed) {
        StringBuilder lines = new StringBuilder(request + "\n" + rung.name());
        for (LadderReport.Step step : failed) {
            lines.append('\n').append(step.rung.name()).append('\t').append(step.verdict.name()).append('\t');
            lines.append(step.reason.replaceAll("\\s+", " "));
        }
        write(decided, lines.toString());
    }

    /** Forgets crashes and decision: the next climb tries everything again. */
    public void forget() {
        delete(suspected);
        delete(crashed);
        delete(decided);
    }

    /** The content, without its situation; empty when it is missing or of another situation. */
    private String read(File file) {
        try {
            FileInputStream in = new FileInputStream(file);
            try {
                ByteArrayOutputStream content = new ByteArrayOutputStream();
                byte[] part = new byte[1024];
                for (int count = in.read(part); count > 0; count = in.read(part)) {
                    content.write(part, 0, count);
                }
                String text = new String(content.toByteArray(), ZipTail.UTF_8);
                return text.startsWith(situation) ? text.substring(situation.length()) : "";
            } finally {
                in.close();
            }
        } catch (IOException error) {
            // Missing, mostly. A file that cannot be read costs one more climb.
            return "";
        }
    }

    private void write(File file, String text) {
        File partial = new File(file.getPath() + ".partial");
        try {
            FileOutputStream out = new FileOutputStream(partial);
            try {
                out.write((situation + text).getBytes(ZipTail.UTF_8));
                // The process may die in the next line, and the phone with it.
                out.getFD().sync();
            } finally {
                out.close();
            }
        } catch (IOException error) {
            throw unwritable(file, error);
        }
        if (!partial.renameTo(file)) {
            throw unwritable(file, null);
        }
    }

    private static void delete(File file) {
        if (file.exists() && !file.delete()) {
            throw unwritable(file, null);
        }
    }

    private static EdgeException unwritable(File file, Throwable cause) {
        return new EdgeException(
                EdgeException.Code.USAGE,
                file + ": cannot be written",
                cause == null ? "" : String.valueOf(cause.getMessage()),
                "a private folder",
                "free some storage",
                cause);
    }
}
