package dermedge.core;

import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;

/**
 * What the ladder must still know after the process died: the rung that it was trying, the rungs that killed it, the
 * decision. A native crash cannot be caught, only found again.
 *
 * <p>Everything belongs to one situation (model, app, library, phone); in another one it is forgotten.
 */
public final class LadderStore {
    private final File trying;
    private final File crashed;
    private final File decided;
    private final String situation;

    /**
     * Turns a leftover marker into a crash.
     *
     * @param folder private to the app; made when missing
     * @param situation one line: model sha256, app version, library version, build fingerprint of the phone
     */
    public LadderStore(File folder, String situation) {
        if (!folder.isDirectory() && !folder.mkdirs()) {
            throw new EdgeException(EdgeException.Code.USAGE, folder + ": cannot be made", "", "a private folder", "");
        }
        this.trying = new File(folder, "trying");
        this.crashed = new File(folder, "crashed");
        this.decided = new File(folder, "decided");
        this.situation = situation.replace('\n', ' ') + "\n";
        String rung = read(trying);
        if (!rung.isEmpty()) {
            write(crashed, read(crashed) + rung + "\n");
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

    /** Whether an earlier process died on this rung. */
    boolean crashedOn(Rung rung) {
        return ("\n" + read(crashed)).contains("\n" + rung.name() + "\n");
    }

    /** The rung that was accepted for this request, null when none was. */
    Rung decision(String request) {
        String[] parts = read(decided).split("\n");
        if (parts.length == 2 && parts[0].equals(request)) {
            for (Rung rung : Rung.values()) {
                if (rung.name().equals(parts[1])) {
                    return rung;
                }
            }
        }
        return null;
    }

    void decide(String request, Rung rung) {
        write(decided, request + "\n" + rung.name());
    }

    /** Forgets crashes and decision: the next climb tries everything again. */
    public void forget() {
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
