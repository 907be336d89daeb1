package dermedge.core;

import java.util.Arrays;
import java.util.zip.CRC32;
import java.util.zip.DataFormatException;
import java.util.zip.Inflater;

/**
 * PNG of every colour type, depth and interlacing, its samples as they stand, as Pillow reads it. A phone's own decoder
 * does not say which samples it gives; the model's golden pictures must be these.
 */
final class PngDecoder {
    private static final int[][] ADAM7 = {
        {0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4}, {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}
    };
    private static final int[] CHANNELS = {1, 0, 3, 1, 2, 0, 4};
    private static final int GREY = 0;
    private static final int PALETTE = 3;

    private final byte[] png;
    private final String name;
    private int widthPx;
    private int heightPx;
    private int bits;
    private int colorType;
    private boolean interlaced;
    private byte[] palette = new byte[0];
    private byte[] transparency;
    private byte[] exif = new byte[0];
    private boolean hasProfile;
    private final Inflater inflater = new Inflater();
    private int chunk;
    private int chunkBytes;

    PngDecoder(byte[] png, String name) {
        this.png = png;
        this.name = name;
    }

    /** The upright picture, alpha blended over white. */
    RgbImage decode() {
        try {
            readHeader();
            byte[] rgba = new byte[Math.multiplyExact(widthPx * heightPx, 4)];
            if (!interlaced) {
                readPass(rgba, new int[] {0, 0, 1, 1});
            }
            for (int pass = 0; interlaced && pass < ADAM7.length; pass++) {
                readPass(rgba, ADAM7[pass]);
            }
            readExifBehindThePixels();
            return RgbImage.overWhite(widthPx, heightPx, rgba).upright(orientation());
        } catch (DataFormatException error) {
            throw damaged(error.getMessage(), error);
        } catch (ArrayIndexOutOfBoundsException error) {
            throw damaged("a chunk ends too early", error);
        } finally {
            inflater.end();
        }
    }

    /** Whether the samples that `decode` read belong to a colour profile. */
    boolean hasProfile() {
        return hasProfile;
    }

    int orientation() {
        return Exif.orientation(exif);
    }

    private void readHeader() {
        chunk = 8;
        nextChunk();
        if (!Bytes.startsWith(png, chunk - 4, "IHDR")) {
            throw damaged("no IHDR", null);
        }
        widthPx = big32(chunk);
        heightPx = big32(chunk + 4);
        bits = png[chunk + 8];
        colorType = png[chunk + 9];
        interlaced = png[chunk + 12] != 0;
        boolean known = colorType >= 0 && colorType < CHANNELS.length && CHANNELS[colorType] > 0;
        boolean depth = bits == 8 || bits == 16 && colorType != PALETTE
                || (bits == 1 || bits == 2 || bits == 4) && (colorType == GREY || colorType == PALETTE);
        if (!known || !depth || widthPx <= 0 || heightPx <= 0) {
            throw damaged(widthPx + " x " + heightPx + ", " + bits + " bits, colour type " + colorType, null);
        }
        Photo.checkPixels(widthPx, heightPx, name, Photo.MAX_PIXELS);
        do {
            chunk += chunkBytes + 4;
            nextChunk();
            if (Bytes.startsWith(png, chunk - 4, "PLTE")) {
                palette = content();
            } else if (Bytes.startsWith(png, chunk - 4, "tRNS")) {
                transparency = content();
            } else if (Bytes.startsWith(png, chunk - 4, "eXIf")) {
                exif = content();
            } else if (Bytes.startsWith(png, chunk - 4, "iCCP")) {
                hasProfile = true;
            }
        } while (!Bytes.startsWith(png, chunk - 4, "IDAT"));
        long pixels = (long) widthPx * heightPx;
        PhotoMemory.require(4 * pixels, pixels, CHANNELS[colorType] % 2 == 0 || transparency != null, name);
        boolean alphaColor = transparency != null && CHANNELS[colorType] % 2 == 1;
        if (alphaColor && bits == 16) {
            throw new EdgeException(
                    EdgeException.Code.IMAGE_UNSUPPORTED,
                    name + ": unsupported pixel format",
                    "16-bit samples with a transparent colour",
                    "8 bits a sample, or 16 unsigned bits",
                    "save the photo as 8-bit RGB");
        }
        if (!alphaColor) {
            transparency = null;
        } else if (colorType != PALETTE && transparency.length < 2 * CHANNELS[colorType]) {
            throw damaged("Truncated tRNS chunk", null);
        }
        inflater.setInput(png, chunk, chunkBytes);
    }

    /** Moves to the content of the chunk that begins at `chunk`, and checks its sum. */
    private void nextChunk() {
        if (chunk + 12 > png.length) {
            throw damaged("the file ends before its pixels", null);
        }
        chunkBytes = big32(chunk);
        chunk += 8;
        if (chunkBytes < 0 || chunkBytes > png.length - chunk - 4) {
            throw damaged("a chunk of " + chunkBytes + " bytes", null);
        }
        CRC32 sum = new CRC32();
        sum.update(png, chunk - 4, chunkBytes + 4);
        if ((int) sum.getValue() != big32(chunk + chunkBytes)) {
            throw damaged("a chunk with a wrong checksum", null);
        }
    }

    private byte[] content() {
        return Arrays.copyOfRange(png, chunk, chunk + chunkBytes);
    }

    /** Pillow looks behind the pixels too, and lets a damaged end pass. */
    private void readExifBehindThePixels() {
        int at = chunk + chunkBytes + 4;
        while (at + 12 <= png.length && big32(at) >= 0 && big32(at) <= png.length - at - 12) {
            if (Bytes.startsWith(png, at + 4, "eXIf")) {
                exif = Arrays.copyOfRange(png, at + 8, at + 8 + big32(at));
            }
            at += big32(at) + 12;
        }
    }

    /** Reads one pass of (left, top, step right, step down). */
    private void readPass(byte[] rgba, int[] pass) throws DataFormatException {
        int width = (widthPx - pass[0] + pass[2] - 1) / pass[2];
        int height = (heightPx - pass[1] + pass[3] - 1) / pass[3];
        int pixelBits = bits * CHANNELS[colorType];
        int pixelBytes = Math.max(1, pixelBits / 8);
        byte[] row = new byte[(int) ((width * (long) pixelBits + 7) / 8)];
        byte[] above = new byte[row.length];
        byte[] filter = new byte[1];
        for (int y = 0; width > 0 && y < height; y++) {
            inflate(filter);
            inflate(row);
            unfilter(filter[0], row, above, pixelBytes);
            for (int x = 0; x < width; x++) {
                int to = 4 * ((pass[1] + y * pass[3]) * widthPx + pass[0] + x * pass[2]);
                pixel(row, x, rgba, to);
            }
            byte[] swap = above;
            above = row;
            row = swap;
        }
    }

    private void inflate(byte[] into) throws DataFormatException {
        int done = 0;
        while (done < into.length) {
            int count = inflater.inflate(into, done, into.length - done);
            done += count;
            if (count == 0) {
                if (inflater.finished() || inflater.needsDictionary()) {
                    throw damaged("fewer pixels than the header says", null);
                }
                chunk += chunkBytes + 4;
                nextChunk();
                if (!Bytes.startsWith(png, chunk - 4, "IDAT")) {
                    throw damaged("fewer pixels than the header says", null);
                }
                inflater.setInput(png, chunk, chunkBytes);
            }
        }
    }

    private void unfilter(int kind, byte[] row, byte[] above, int step) {
        for (int i = 0; i < row.length; i++) {
            int left = i >= step ? row[i - step] & 0xFF : 0;
            int up = above[i] & 0xFF;
            int corner = i >= step ? above[i - step] & 0xFF : 0;
            switch (kind) {
                case 0:
                    break;
                case 1:
                    row[i] += (byte) left;
                    break;
                case 2:
                    row[i] += (byte) up;
                    break;
                case 3:
                    row[i] += (byte) (left + up >> 1);
                    break;
                case 4:
                    row[i] += (byte) paeth(left, up, corner);
                    break;
                default:
                    throw damaged("filter " + kind, null);
            }
        }
    }

    private static int paeth(int left, int up, int corner) {
        int fromLeft = Math.abs(up - corner);
        int fromUp = Math.abs(left - corner);
        int fromCorner = Math.abs(left + up - 2 * corner);
        return fromLeft <= fromUp && fromLeft <= fromCorner ? left : fromUp <= fromCorner ? up : corner;
    }

    private void pixel(byte[] row, int x, byte[] rgba, int to) {
        int channels = CHANNELS[colorType];
        int alpha = channels % 2 == 0 ? sample(row, x * channels + channels - 1) : 255;
        int red = sample(row, x * channels);
        int green = channels < 3 ? red : sample(row, x * channels + 1);
        int blue = channels < 3 ? red : sample(row, x * channels + 2);
        if (colorType == PALETTE) {
            int index = red;
            alpha = transparency != null && index < transparency.length ? transparency[index] & 0xFF : 255;
            // An index behind the palette's end: Pillow's palettes begin as a ramp of grey.
            boolean listed = 3 * index + 2 < palette.length;
            red = listed ? palette[3 * index] & 0xFF : index;
            green = listed ? palette[3 * index + 1] & 0xFF : index;
            blue = listed ? palette[3 * index + 2] & 0xFF : index;
        } else if (transparency != null && transparent(red, green, blue)) {
            alpha = 0;
        }
        rgba[to] = (byte) red;
        rgba[to + 1] = (byte) green;
        rgba[to + 2] = (byte) blue;
        rgba[to + 3] = (byte) alpha;
    }

    private boolean transparent(int red, int green, int blue) {
        int first = big16(transparency, 0);
        if (colorType == GREY) {
            // Pillow widens the samples of 1 bit in both places, those of 2 and 4 bits only in the picture.
            return red == (bits == 1 ? first != 0 ? 255 : 0 : first);
        }
        return red == first && green == big16(transparency, 2) && blue == big16(transparency, 4);
    }

    /** The sample as 8 bits: 1, 2 and 4 bits of grey widened, 16 cut to the high byte, palette indices as they are. */
    private int sample(byte[] row, int index) {
        if (bits == 8) {
            return row[index] & 0xFF;
        }
        if (bits == 16) {
            return row[2 * index] & 0xFF;
        }
        int perByte = 8 / bits;
        int value = row[index / perByte] >> bits * (perByte - 1 - index % perByte) & (1 << bits) - 1;
        return colorType == PALETTE ? value : value * 255 / ((1 << bits) - 1);
    }

    private int big32(int at) {
        return big16(png, at) << 16 | big16(png, at + 2);
    }

    private static int big16(byte[] data, int at) {
        return (data[at] & 0xFF) << 8 | data[at + 1] & 0xFF;
    }

    private EdgeException damaged(String found, Throwable cause) {
        return new EdgeException(
                EdgeException.Code.IMAGE_UNREADABLE,
                name + ": the image is damaged or incomplete",
                found == null ? "" : found,
                "a complete image file",
                "copy or export the photo again",
                cause);
    }
}
