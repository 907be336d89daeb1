package dermedge.core;

/** Whether a photo can be classified, before the inference; `suitability.py` in Java, which says where the limits come from. */
final class Suitability {
    /** Of the photo's shorter side, by the network's. */
    static final double MIN_SIDE = 0.5;
    /** Of the longer side, by the shorter. */
    static final double MAX_ASPECT = 3;
    /** Standard deviation of the green values of the network's pixels. */
    static final double MIN_SPREAD = 2;

    private Suitability() {}

    /** An upright photo is neither too small nor too narrow. */
    static void requireSize(RgbImage image, Contract contract, String name) {
        int sidePx = Math.min(image.widthPx, image.heightPx);
        double leastPx = MIN_SIDE * Math.min(contract.heightPx, contract.widthPx);
        if (sidePx < leastPx) {
            throw unsuitable(name + ": the photo is too small to classify", "side_px", sidePx, "at least ", leastPx, "take it from nearer");
        }
        double aspect = Math.max(image.widthPx, image.heightPx) / (double) sidePx;
        if (aspect > MAX_ASPECT) {
            throw unsuitable(name + ": the photo is too narrow to classify", "aspect", aspect, "at most ", MAX_ASPECT, "crop it");
        }
    }

    /** An image of the network's size is not blank. */
    static void requireContents(RgbImage image, String name) {
        double sum = 0;
        double squares = 0;
        for (int at = 1; at < image.rgb.length; at += 3) {
            int green = image.rgb[at] & 0xFF;
            sum += green;
            squares += green * green;
        }
        double count = image.rgb.length / 3;
        double spread = Math.sqrt(Math.max(0, squares / count - sum / count * (sum / count)));
        if (spread < MIN_SPREAD) {
            throw unsuitable(name + ": the photo is blank", "spread", spread, "at least ", MIN_SPREAD, "photograph the object");
        }
    }

    private static EdgeException unsuitable(
            String what, String measure, double value, String relation, double threshold, String fix) {
        return new EdgeException(
                EdgeException.Code.IMAGE_UNSUITABLE,
                what,
                measure + " " + Json.general(value),
                relation + Json.general(threshold),
                fix);
    }
}
