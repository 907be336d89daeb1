package dermedge.core;

/**
 * The antialiased 8-bit resampling of Pillow 13, bit for bit: `Resample.c`, its coefficients in double precision, its
 * sums in 22-bit fixed point, a pass left out where the side does not change.
 */
public final class PillowResize {
    /** What weighs the pixels. */
    public enum Filter {
        /** A triangle of radius 1: BILINEAR, the contract's. */
        BILINEAR(1.0),
        /** A box of radius 1/2: BOX, for the grid of means in a trace. */
        BOX(0.5);

        final double support;

        Filter(double support) {
            this.support = support;
        }

        double weight(double x) {
            if (this == BOX) {
                return x > -0.5 && x <= 0.5 ? 1.0 : 0.0;
            }
            double distance = Math.abs(x);
            return distance < 1.0 ? 1.0 - distance : 0.0;
        }
    }

    private static final int PRECISION_BITS = 32 - 8 - 2;

    private PillowResize() {}

    /** Resizes to width x height pixels. */
    public static RgbImage resize(RgbImage image, int widthPx, int heightPx, Filter filter) {
        // Each pass rounds, so their order shows in the last bit. Pillow shrinks the height first where that saves work;
        // before its release 13 it never did.
        int shrinkPx = image.heightPx - heightPx;
        if (shrinkPx > 0 && shrinkPx > 2 * (image.widthPx - widthPx)) {
            return toWidth(toHeight(image, heightPx, filter), widthPx, filter);
        }
        return toHeight(toWidth(image, widthPx, filter), heightPx, filter);
    }

    private static RgbImage toWidth(RgbImage image, int widthPx, Filter filter) {
        if (image.widthPx == widthPx) {
            return image;
        }
        Weights weights = new Weights(image.widthPx, widthPx, filter);
        byte[] out = new byte[widthPx * image.heightPx * 3];
        int to = 0;
        for (int y = 0; y < image.heightPx; y++) {
            int row = 3 * y * image.widthPx;
            for (int x = 0; x < widthPx; x++) {
                int from = row + 3 * weights.first[x];
                to = weigh(image.rgb, from, 3, weights, x, out, to);
            }
        }
        return new RgbImage(widthPx, image.heightPx, out);
    }

    private static RgbImage toHeight(RgbImage image, int heightPx, Filter filter) {
        if (image.heightPx == heightPx) {
            return image;
        }
        Weights weights = new Weights(image.heightPx, heightPx, filter);
        int stride = 3 * image.widthPx;
        byte[] out = new byte[heightPx * stride];
        int to = 0;
        for (int y = 0; y < heightPx; y++) {
            int row = weights.first[y] * stride;
            for (int x = 0; x < image.widthPx; x++) {
                to = weigh(image.rgb, row + 3 * x, stride, weights, y, out, to);
            }
        }
        return new RgbImage(image.widthPx, heightPx, out);
    }

    private static int weigh(byte[] in, int from, int step, Weights weights, int index, byte[] out, int to) {
        int[] fixed = weights.fixed[index];
        int red = 1 << PRECISION_BITS - 1;
        int green = red;
        int blue = red;
        for (int weight : fixed) {
            red += (in[from] & 0xFF) * weight;
            green += (in[from + 1] & 0xFF) * weight;
            blue += (in[from + 2] & 0xFF) * weight;
            from += step;
        }
        out[to] = clip(red);
        out[to + 1] = clip(green);
        out[to + 2] = clip(blue);
        return to + 3;
    }

    private static byte clip(int sum) {
        return (byte) Math.max(0, Math.min(255, sum >> PRECISION_BITS));
    }

    /** For each output pixel, the first input pixel and the fixed-point weights from there on. */
    private static final class Weights {
        final int[] first;
        final int[][] fixed;

        Weights(int inPx, int outPx, Filter filter) {
            double scale = (double) inPx / outPx;
            double filterScale = Math.max(scale, 1.0);
            double support = filter.support * filterScale;
            double inverse = 1.0 / filterScale;
            first = new int[outPx];
            fixed = new int[outPx][];
            for (int out = 0; out < outPx; out++) {
                double center = (out + 0.5) * scale;
                int low = Math.max(0, (int) (center - support + 0.5));
                int count = Math.min(inPx, (int) (center + support + 0.5)) - low;
                double[] weights = new double[count];
                double total = 0;
                for (int i = 0; i < count; i++) {
                    weights[i] = filter.weight((i + low - center + 0.5) * inverse);
                    total += weights[i];
                }
                first[out] = low;
                fixed[out] = new int[count];
                for (int i = 0; i < count; i++) {
                    double share = total == 0 ? weights[i] : weights[i] / total;
                    double value = share * (1 << PRECISION_BITS);
                    fixed[out][i] = (int) (value < 0 ? value - 0.5 : value + 0.5);
                }
            }
        }
    }
}
