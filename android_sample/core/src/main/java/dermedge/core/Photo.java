package dermedge.core;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;

/** What the bytes of a photo are, by their content and never by a name; `decode_rgb` up to the decoder. */
public final class Photo {
    /** 12,000 x 10,000, as in Python; a phone may run out of memory before. */
    public static final int MAX_PIXELS = 120_000_000;

    /** Of a JPEG before it is decoded at a smaller scale, which leaves MAX_PIXELS at most. */
    public static final int MAX_JPEG_PIXELS = 500_000_000;

    /** Of a photo's file, as in Python: more than MAX_PIXELS of any accepted format needs. */
    public static final int MAX_BYTES = 268_435_456;

    private static final int READ_BYTES = 1 << 16;

    /** Decodes what the core does not: JPEG, WebP and BMP. A phone has a decoder, a desktop test need not. */
    public interface PlatformDecoder {
        /** Width and height as stored, before any turning; null when this is no picture that it knows. */
        int[] sizePx(byte[] photo);

        /**
         * In sRGB, not turned, blended over white by {@link Photo#decoded}.
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

    /**
     * Reads a photo to its end and closes it; `read_photo` in Java. A share may be a video, or have no end.
     *
     * @param in null where its owner gave nothing
     * @throws EdgeException it cannot be read, is empty, or is longer than MAX_BYTES
     */
    public static byte[] read(InputStream in, String name) {
        return read(in, name, MAX_BYTES);
    }

    static byte[] read(InputStream in, String name, int maxBytes) {
        if (in == null) {
            throw unreachable(name, "nothing behind its address", null);
        }
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        try {
            try {
                byte[] part = new byte[READ_BYTES];
                for (int count = in.read(part); count >= 0; count = in.read(part)) {
                    if (count > maxBytes - out.size()) {
                        throw tooLong(name, maxBytes);
                    }
                    out.write(part, 0, count);
                }
            } finally {
                in.close();
            }
        } catch (IOException cause) {
            throw unreachable(name, String.valueOf(cause.getMessage()), cause);
        }
        if (out.size() == 0) {
            throw new EdgeException(
                    EdgeException.Code.IMAGE_UNREADABLE, name + ": the file is empty", "0 bytes", "a photo", "copy the photo again");
        }
        return out.toByteArray();
    }

    private static EdgeException tooLong(String name, int maxBytes) {
        return new EdgeException(
                EdgeException.Code.IMAGE_TOO_LARGE,
                name + ": the file is too large",
                "more than " + maxBytes + " bytes",
                "at most " + maxBytes + " bytes",
                "save the photo as JPEG");
    }

    /** What the owner of a photo says instead of giving it: gone, no right to it, no network. */
    public static EdgeException unreachable(String name, String found, Throwable cause) {
        return new EdgeException(
                EdgeException.Code.IMAGE_NOT_FOUND,
                name + ": the photo cannot be read",
                found,
                "a photo that its owner gives to this app",
                "choose the photo again, or copy it to the phone first",
                cause);
    }

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
        String unknown = photo.length + " bytes of another format";
        String found = unknown;
        if (Bytes.startsWith(photo, 0, "GIF8")) {
            found = "a GIF";
        } else if (Bytes.startsWith(photo, 0, "%PDF")) {
            found = "a PDF";
        } else if (Bytes.startsWith(photo, 4, "ftyp")) {
            found = "HEIC, AVIF or a video";
        } else if (Bytes.startsWith(photo, 0, "II*\0") || Bytes.startsWith(photo, 0, "MM\0*")) {
            found = "a TIFF, which no phone decodes";
        }
        throw new EdgeException(
                found.equals(unknown) ? EdgeException.Code.IMAGE_UNREADABLE : EdgeException.Code.IMAGE_UNSUPPORTED,
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

    /**
     * What a platform's decoder decoded of a photo: straight RGBA bytes, blended over white.
     *
     * @throws EdgeException the photo's format has no transparency and yet a pixel is transparent: phones leave what
     *     they could not decode so, and say nothing
     */
    public static RgbImage decoded(byte[] photo, int widthPx, int heightPx, byte[] rgba) {
        if (WholeFile.hasNoAlpha(photo, format(photo, "photo"))) {
            for (int at = 3; at < rgba.length; at += 4) {
                if (rgba[at] != (byte) 0xFF) {
                    throw WholeFile.incomplete("photo", "pixels that could not be decoded, the first in row " + at / (4 * widthPx));
                }
            }
        }
        return RgbImage.overWhite(widthPx, heightPx, rgba);
    }

    static void checkPixels(int widthPx, int heightPx, String name, int most) {
        if ((long) widthPx * heightPx > most) {
            throw new EdgeException(
                    EdgeException.Code.IMAGE_TOO_LARGE,
                    name + ": the image has too many pixels",
                    widthPx + " x " + heightPx + " pixels",
                    "at most " + most + " pixels",
                    "crop or shrink the photo first");
        }
    }
}
