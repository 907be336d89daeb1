package dermedge.app;

import android.app.Activity;
import android.content.ActivityNotFoundException;
import android.content.ClipData;
import android.content.ClipboardManager;
import android.content.Context;
import android.content.Intent;
import android.net.Uri;
import android.os.Bundle;
import android.provider.MediaStore;
import android.view.View;
import android.view.ViewGroup;
import android.view.WindowInsets;
import android.widget.ImageView;
import android.widget.ProgressBar;
import android.widget.TextView;
import android.widget.Toast;
import dermedge.core.Contract;
import dermedge.core.Decision;
import dermedge.core.LadderReport;
import dermedge.core.Prediction;
import java.io.IOException;
import java.text.NumberFormat;
import java.util.Map;

/** The one screen: pick, take or receive a photo; the answer, and what gave it. */
public final class MainActivity extends Activity {
    private static final int PICK = 1;
    private static final int TAKE = 2;
    /** Since API 33; older phones have the documents' picker. */
    private static final String PICK_IMAGES = "android.provider.action.PICK_IMAGES";
    private static final int SHOWN_LABELS = 3;

    private final Runnable changed = new Runnable() { @Override public void run() { show(); } };
    private Session session;

    @Override
    protected void onCreate(Bundle saved) {
        super.onCreate(saved);
        setContentView(R.layout.main);
        keepClearOfBars(findViewById(R.id.root));
        session = Session.get(this);
        onClick(R.id.pick, new Runnable() { @Override public void run() { pick(); } });
        onClick(R.id.take, new Runnable() { @Override public void run() { take(); } });
        onClick(R.id.retest, new Runnable() { @Override public void run() { session.climb(true); show(); } });
        onClick(R.id.copy, new Runnable() { @Override public void run() { copy(); } });
        if (saved == null) {
            receive(getIntent());
        }
    }

    @Override
    protected void onNewIntent(Intent intent) {
        super.onNewIntent(intent);
        receive(intent);
    }

    @Override
    protected void onStart() {
        super.onStart();
        session.listen(changed);
        show();
    }

    @Override
    protected void onStop() {
        session.unlisten(changed);
        super.onStop();
    }

    private void onClick(int id, final Runnable action) {
        findViewById(id).setOnClickListener(
                new View.OnClickListener() {
                    @Override
                    public void onClick(View view) {
                        action.run();
                    }
                });
    }

    /** Android 15 draws every app behind the bars. */
    private static void keepClearOfBars(View root) {
        root.setOnApplyWindowInsetsListener(
                new View.OnApplyWindowInsetsListener() {
                    @Override
                    public WindowInsets onApplyWindowInsets(View view, WindowInsets insets) {
                        view.setPadding(
                                insets.getSystemWindowInsetLeft(),
                                insets.getSystemWindowInsetTop(),
                                insets.getSystemWindowInsetRight(),
                                insets.getSystemWindowInsetBottom());
                        return insets;
                    }
                });
    }

    private void pick() {
        try {
            startActivityForResult(new Intent(PICK_IMAGES).setType("image/*"), PICK);
        } catch (ActivityNotFoundException none) {
            Intent documents = new Intent(Intent.ACTION_OPEN_DOCUMENT).setType("image/*");
            start(documents.addCategory(Intent.CATEGORY_OPENABLE), PICK);
        }
    }

    private void take() {
        try {
            // Emptied first: a camera that gives up must not leave the last photo for this one.
            new java.io.FileOutputStream(PhotoProvider.file(this)).close();
        } catch (IOException error) {
            toast(getString(R.string.unreadable, error.getMessage()));
            return;
        }
        Intent camera = new Intent(MediaStore.ACTION_IMAGE_CAPTURE);
        camera.putExtra(MediaStore.EXTRA_OUTPUT, PhotoProvider.PHOTO);
        camera.setClipData(ClipData.newRawUri("", PhotoProvider.PHOTO));
        camera.addFlags(Intent.FLAG_GRANT_WRITE_URI_PERMISSION | Intent.FLAG_GRANT_READ_URI_PERMISSION);
        start(camera, TAKE);
    }

    private void start(Intent intent, int request) {
        try {
            startActivityForResult(intent, request);
        } catch (ActivityNotFoundException none) {
            toast(getString(R.string.no_app));
        }
    }

    @Override
    protected void onActivityResult(int request, int result, Intent data) {
        if (result == RESULT_OK && request == PICK && data != null && data.getData() != null) {
            classify(PhotoSource.behind(data.getData()));
        } else if (result == RESULT_OK && request == TAKE) {
            receiveTaken();
        } else if (request == TAKE) {
            PhotoProvider.file(this).delete();
        }
    }

    private void receive(Intent intent) {
        if (intent != null && Intent.ACTION_SEND.equals(intent.getAction())) {
            Uri shared = intent.getParcelableExtra(Intent.EXTRA_STREAM);
            // Only what another app offers: a file:// address could name this app's own files.
            if (shared != null && "content".equals(shared.getScheme())) {
                classify(PhotoSource.behind(shared));
            }
        }
    }

    /** The file is the camera app's to write until it returns, and stays no longer than that. */
    private void receiveTaken() {
        try {
            classify(PhotoSource.taken(PhotoProvider.claim(this)));
        } catch (IOException error) {
            toast(getString(R.string.unreadable, error.getMessage()));
        }
    }

    private void classify(PhotoSource source) {
        session.classify(source);
        show();
    }

    private void copy() {
        ClipboardManager board = (ClipboardManager) getSystemService(Context.CLIPBOARD_SERVICE);
        board.setPrimaryClip(ClipData.newPlainText("DermEdge", session.reportText()));
        toast(getString(R.string.copied));
    }

    private void toast(String text) {
        Toast.makeText(this, text, Toast.LENGTH_LONG).show();
    }

    private void text(int id, String text) {
        TextView view = (TextView) findViewById(id);
        view.setText(text);
        view.setVisibility(text.isEmpty() ? View.GONE : View.VISIBLE);
    }

    /** Draws the whole session; nothing of it lives in the views. */
    private void show() {
        Prediction prediction = session.prediction;
        ViewGroup bars = (ViewGroup) findViewById(R.id.bars);
        bars.removeAllViews();
        text(R.id.reason, "");
        findViewById(R.id.retest).setEnabled(!session.busy());
        if (session.busy()) {
            text(R.id.status, getString(session.report == null ? R.string.loading : R.string.working));
        } else if (session.failure() != null) {
            text(R.id.status, getString(session.failure().sentence));
            text(R.id.reason, session.failure().detail);
        } else if (prediction == null) {
            text(R.id.status, getString(R.string.ready));
        } else {
            showPrediction(prediction, bars);
        }
        showPhoto();
        showRuntime(prediction);
        if (session.model != null) {
            Contract contract = session.model.contract();
            text(R.id.intended, getString(R.string.intended, contract.modelId(), contract.intendedUse()));
        }
    }

    private void showPrediction(Prediction prediction, ViewGroup bars) {
        Decision decision = prediction.decision();
        int[] titles = {R.string.answer, R.string.refer, R.string.not_a_lesion};
        text(R.id.status, getString(titles[decision.outcome().ordinal()]));
        StringBuilder reasons = new StringBuilder();
        for (Decision.Finding finding : decision.findings()) {
            boolean top = finding.rule.measure.equals(Contract.Rule.TOP_SCORE);
            reasons.append(reasons.length() == 0 ? "" : "\n");
            reasons.append(getString(
                    top ? R.string.top_score : R.string.normalized_entropy,
                    percent(finding.value), percent(finding.rule.threshold)));
        }
        text(R.id.reason, reasons.length() == 0 ? getString(R.string.no_rule) : reasons.toString());
        for (Prediction.ScoredLabel label : prediction.top(SHOWN_LABELS)) {
            addBar(bars, label.label.name, label.score);
        }
        TextView title = new TextView(this);
        title.setText(R.string.groups);
        title.setTextColor(getColor(R.color.quiet));
        title.setPadding(0, (int) (12 * getResources().getDisplayMetrics().density), 0, 0);
        bars.addView(title);
        for (Map.Entry<String, Double> group : prediction.groups().entrySet()) {
            addBar(bars, group.getKey(), group.getValue());
        }
    }

    private void addBar(ViewGroup bars, String name, double score) {
        View row = getLayoutInflater().inflate(R.layout.bar, bars, false);
        ((TextView) row.findViewById(R.id.bar_text)).setText(getString(R.string.label_score, name, percent(score)));
        ((ProgressBar) row.findViewById(R.id.bar)).setProgress((int) Math.round(1000 * score));
        bars.addView(row);
    }

    private static String percent(double value) {
        NumberFormat format = NumberFormat.getPercentInstance();
        format.setMaximumFractionDigits(1);
        return format.format(value);
    }

    private void showRuntime(Prediction prediction) {
        LadderReport report = session.report;
        if (report == null) {
            text(R.id.runs, "");
            return;
        }
        StringBuilder runs = new StringBuilder(getString(R.string.runs, report.requested(), used(report)));
        LadderReport.Step failure = report.firstFailure();
        if (failure != null) {
            String why = getString(Words.of(failure.verdict));
            runs.append('\n').append(getString(R.string.because, getString(Words.of(failure.rung)), why, failure.reason));
        }
        if (prediction != null) {
            if (session.answeredBy.used() != report.used()) {
                runs.append('\n').append(getString(R.string.answered_by, used(session.answeredBy)));
            }
            StringBuilder stages = new StringBuilder();
            for (Map.Entry<String, Double> stage : prediction.elapsedMs().entrySet()) {
                stages.append(stages.length() == 0 ? "" : ", ").append(getString(Words.stage(stage.getKey())));
                stages.append(' ').append(stage.getValue());
            }
            runs.append('\n').append(getString(R.string.stages, stages));
        }
        text(R.id.runs, runs.toString());
    }

    private String used(LadderReport report) {
        return getString(Words.used(report.used()));
    }

    private void showPhoto() {
        ImageView view = (ImageView) findViewById(R.id.photo);
        view.setVisibility(session.preview == null ? View.GONE : View.VISIBLE);
        view.setImageBitmap(session.preview);
    }
}
