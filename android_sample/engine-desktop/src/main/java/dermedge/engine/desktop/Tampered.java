package dermedge.engine.desktop;

import dermedge.core.Contract;
import dermedge.core.PillowResize;
import dermedge.core.Preprocess;
import dermedge.core.RgbImage;

/** Preprocessing with one mistake that phone apps make: the parity harness must find each at its own stage. */
final class Tampered {
    private Tampered() {}

    static Preprocess of(String mistake, Contract contract) {
        switch (mistake) {
            case "none":
            case "labels":
                return new Preprocess(contract, null);
            case "crop":
                return new ShiftedCrop(contract);
            case "filter":
                return new BoxFilter(contract);
            case "rounding":
                return new Truncated(contract);
            default:
                throw new IllegalArgumentException("unknown mistake " + mistake);
        }
    }

    /** One pixel to the left; a photo that is used whole is cut by one pixel. */
    private static final class ShiftedCrop extends Preprocess {
        ShiftedCrop(Contract contract) {
            super(contract, null);
        }

        @Override
        public RgbImage crop(RgbImage image) {
            int[] box = cropBox(image.widthPx(), image.heightPx());
            int width = box[0] > 0 ? box[2] - box[0] : box[2] - 1;
            int left = Math.max(0, box[0] - 1);
            int height = box[3] - box[1];
            byte[] rgba = new byte[4 * width * height];
            for (int i = 0; i < width * height; i++) {
                int from = 3 * ((box[1] + i / width) * image.widthPx() + left + i % width);
                System.arraycopy(image.rgb(), from, rgba, 4 * i, 3);
                rgba[4 * i + 3] = -1;
            }
            return RgbImage.overWhite(width, height, rgba);
        }
    }

    private static final class BoxFilter extends Preprocess {
        BoxFilter(Contract contract) {
            super(contract, null);
        }

        @Override
        public RgbImage resize(RgbImage image) {
            return PillowResize.resize(
                    image, contract().widthPx(), contract().heightPx(), PillowResize.Filter.BOX);
        }
    }

    /** By way of 0..1 with the constant that many apps carry, then cut off where the quantizer rounds. */
    private static final class Truncated extends Preprocess {
        Truncated(Contract contract) {
            super(contract, null);
        }

        @Override
        protected double nearest(double value) {
            return (int) (value * 0.00392 * 255);
        }
    }
}
