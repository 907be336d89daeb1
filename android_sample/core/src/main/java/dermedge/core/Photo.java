package dermedge.core;

/** What the bytes of a photo are, by their content and never by a name; `decode_rgb` up to the decoder. */
public final class Photo {
    /** 12,000 x 10,000, as in Python; a phone may run out of memory before. */
    public static final int MAX_PIXELS = 120_000_000;

    /** Decodes what the core does not: JPEG, WebP and BMP. A phone has a decoder, a desktop test need not. */
    public interface PlatformDecoder {
        /** Width and height as stored, before any turning; null when this is no picture that it knows. */
        int[] sizePx(byte[] photo);

        /**
         * In sRGB, not turned, blended over white.
         *
         * @param sampleSize 1, 2, 4 or 8: sides are divided by it, rounded up, a JPEG in its DCT
         */
        RgbImage decode(byte[] photo, int sampleSize);
    }

    enum Format {
        JPEG,
        PNG,
        WEBP,
        BMP
    }

    private Photo() {}

    static Format format(byte[] photo, String name) {
        if (Bytes.startsWith(photo, 0, "\u00ff\u00d8\u00ff")) {
            return Format.JPEG;
        }
        if (Bytes.startsWith(photo, 0, "\u0089PNG\r\n\u001a\n")) {
            return Format.PNG;
        }
        if (Bytes.startsWith(photo, 0, "RIFF") && Bytes.startsWith(photo, 8, "WEBP")) {
            return Format.WEBP;
        }
        if (Bytes.startsWith(photo, 0, "BM")) {
            return Format.BMP;
        }
        String found = photo.length + " bytes of another format";
        if (Bytes.startsWith(photo, 0, "GIF8")) {
            found = "a GIF";
        } else if (Bytes.startsWith(photo, 4, "ftyp")) {
            found = "HEIC, AVIF or a video";
        } else if (Bytes.startsWith(photo, 0, "II*\0") || Bytes.startsWith(photo, 0, "MM\0*")) {
            found = "a TIFF, which no phone decodes";
        }
        throw new EdgeException(
                EdgeException.Code.IMAGE_UNREADABLE,
                name + ": not an image of an accepted format",
                found,
                "JPEG, PNG, WEBP, BMP",
                "convert the photo to JPEG or PNG");
    }

    /** How a JPEG or WebP wants to be turned, 1 to 8; 1 for everything else. For showing a photo, not for classifying it. */
    public static int orientation(byte[] photo) {
        try {
            return orientation(photo, format(photo, "photo"));
        } catch (EdgeException otherFormat) {
            return 1;
        }
    }

    static int orientation(byte[] photo, Format format) {
        switch (format) {
            case JPEG:
                return Exif.orientation(Exif.ofJpeg(photo));
            case WEBP:
                return Exif.orientation(Exif.ofWebp(photo));
            default:
                return 1;
        }
    }

    static void checkPixels(int widthPx, int heightPx, String name) {
        if ((long) widthPx * heightPx > MAX_PIXELS) {
            throw new EdgeException(
                    EdgeException.Code.IMAGE_TOO_LARGE,
                    name + ": the image has too many pixels",
                    widthPx + " x " + heightPx + " pixels",
                    "at most " + MAX_PIXELS + " pixels",
                    "crop or shrink the photo first");
        }
    }
}
