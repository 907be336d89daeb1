package dermedge.core;

/** 8-bit pixels, rows first, three interleaved channels RGB. Its steps return new images and leave this one alone. */
public final class RgbImage {
    final int widthPx;
    final int heightPx;
    final byte[] rgb;

    /** Takes the array as it is: widthPx * heightPx * 3 bytes. */
    RgbImage(int widthPx, int heightPx, byte[] rgb) {
        this.widthPx = widthPx;
        this.heightPx = heightPx;
        this.rgb = rgb;
    }

    /**
     * From straight (not premultiplied) RGBA bytes, transparent pixels blended over white as Pillow's paste does it.
     */
    public static RgbImage overWhite(int widthPx, int heightPx, byte[] rgba) {
        byte[] rgb = new byte[widthPx * heightPx * 3];
        for (int from = 0, to = 0; to < rgb.length; from += 4, to += 3) {
            int alpha = rgba[from + 3] & 0xFF;
            for (int channel = 0; channel < 3; channel++) {
                // Pillow's DIV255: (t + (t >> 8)) >> 8 with t = value + 128 rounds value / 255 to nearest.
                int value = 255 * (255 - alpha) + (rgba[from + channel] & 0xFF) * alpha + 128;
                rgb[to + channel] = (byte) (value + (value >> 8) >> 8);
            }
        }
        return new RgbImage(widthPx, heightPx, rgb);
    }

    public int widthPx() {
        return widthPx;
    }

    public int heightPx() {
        return heightPx;
    }

    /** The pixels; not a copy. */
    public byte[] rgb() {
        return rgb;
    }

    /** Applies an EXIF orientation, 1 to 8; any other value counts as 1. */
    public RgbImage upright(int orientation) {
        if (orientation < 2 || orientation > 8) {
            return this;
        }
        boolean turned = orientation >= 5;
        int width = turned ? heightPx : widthPx;
        int height = turned ? widthPx : heightPx;
        byte[] upright = new byte[rgb.length];
        int to = 0;
        for (int y = 0; y < height; y++) {
            for (int x = 0; x < width; x++) {
                int sourceX = turned ? y : x;
                int sourceY = turned ? x : y;
                // 2 mirrors, 3 turns by 180 degrees, 4 flips, 5 transposes; 6, 7 and 8 transpose and do the like.
                boolean flipX = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
                boolean flipY = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
                sourceX = flipX ? widthPx - 1 - sourceX : sourceX;
                sourceY = flipY ? heightPx - 1 - sourceY : sourceY;
                int from = 3 * (sourceY * widthPx + sourceX);
                upright[to++] = rgb[from];
                upright[to++] = rgb[from + 1];
                upright[to++] = rgb[from + 2];
            }
        }
        return new RgbImage(width, height, upright);
    }

    /** The region (left, top, right, bottom), which lies inside. */
    RgbImage region(int[] box) {
        int width = box[2] - box[0];
        int height = box[3] - box[1];
        if (width == widthPx && height == heightPx) {
            return this;
        }
        byte[] region = new byte[width * height * 3];
        for (int y = 0; y < height; y++) {
            System.arraycopy(rgb, 3 * ((box[1] + y) * widthPx + box[0]), region, 3 * y * width, 3 * width);
        }
        return new RgbImage(width, height, region);
    }
}
