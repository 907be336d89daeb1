package dermedge.app;

import dermedge.core.EdgeException;
import dermedge.core.LadderReport;
import dermedge.core.Rung;

/** The core's codes and names as resources, so that they are read in the user's language. */
final class Words {
    private Words() {}

    static int of(EdgeException.Code code) {
        switch (code) {
            case IMAGE_NOT_FOUND:
                return R.string.error_image_not_found;
            case IMAGE_UNREADABLE:
            case IMAGE_UNSUPPORTED:
            case IMAGE_UNSUITABLE:
                return R.string.error_image_unreadable;
            case IMAGE_TOO_LARGE:
                return R.string.error_image_too_large;
            case NO_INTERPRETER:
            case INTERPRETER_BROKEN:
            case SELF_CHECK_FAILED:
                return R.string.error_runtime;
            case USAGE:
                return R.string.error_app;
            default:
                return R.string.error_model;
        }
    }

    /** Why an accelerator is not used. */
    static int of(LadderReport.Verdict verdict) {
        switch (verdict) {
            case NOT_LISTED:
                return R.string.verdict_not_listed;
            case CRASHED_BEFORE:
                return R.string.verdict_crashed_before;
            case LIBRARY_MISSING:
                return R.string.verdict_library_missing;
            case WRONG_ANSWER:
                return R.string.verdict_wrong_answer;
            case NO_GAIN:
                return R.string.verdict_no_gain;
            default:
                return R.string.verdict_refused;
        }
    }

    static int of(Rung rung) {
        switch (rung) {
            case NPU_STRICT:
                return R.string.rung_npu_strict;
            case NPU_PARTIAL:
                return R.string.rung_npu_partial;
            case GPU:
                return R.string.rung_gpu;
            default:
                return R.string.rung_cpu;
        }
    }

    /** `LadderReport.usedText`: what is known of the accelerator that runs. */
    static int used(Rung rung) {
        switch (rung) {
            case NPU_STRICT:
                return R.string.used_npu_strict;
            case NPU_PARTIAL:
                return R.string.used_npu_partial;
            default:
                return of(rung);
        }
    }

    /** A stage of `Prediction.elapsedMs`. */
    static int stage(String name) {
        switch (name) {
            case "decode":
                return R.string.stage_decode;
            case "crop":
                return R.string.stage_crop;
            case "resize":
                return R.string.stage_resize;
            case "input":
                return R.string.stage_input;
            case "inference":
                return R.string.stage_inference;
            case "total":
                return R.string.stage_total;
            default:
                throw new IllegalArgumentException(name + ": unknown stage. Add a string for it.");
        }
    }
}
