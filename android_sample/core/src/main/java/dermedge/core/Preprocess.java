package dermedge.core;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/**
 * Photo bytes to input bytes; `preprocess.py` in Java, step by step under the same names:
 *
 * <pre>photo bytes -> decodeRgb -> crop -> resize -> pixels_u8 -> inputBytes -> the input tensor</pre>
 *
 * A step may be overridden for one reason: to prove that the parity harness finds it.
 */
public class Preprocess {
    private final Contract contract;
    private final Photo.PlatformDecoder decoder;

    /** @param decoder for JPEG, WebP and BMP; null where only PNG is needed */
    public Preprocess(Contract contract, Photo.PlatformDecoder decoder) {
        this.contract = contract;
        this.decoder = decoder;
    }

    protected final Contract contract() {
        return contract;
    }

    /** Decodes a photo to upright 8-bit RGB. */
    public RgbImage decodeRgb(byte[] photo, String name) {
        Photo.Format format = Photo.format(photo, name);
        if (format == Photo.Format.PNG) {
            PngDecoder png = new PngDecoder(photo, name);
            RgbImage image = png.decode();
            // Colours of another space are the platform's affair; where there is none they stay as they are.
            return png.hasProfile() && decoder != null ? decoder.decode(photo, 1).upright(png.orientation()) : image;
        }
        WholeFile.require(photo, format, name);
        int[] sizePx = decoder == null ? null : decoder.sizePx(photo);
        if (sizePx == null) {
            throw new EdgeException(
                    EdgeException.Code.IMAGE_UNREADABLE,
                    name + ": the image is damaged, or this device does not decode it",
                    format.toString(),
                    "a complete image file",
                    "copy or export the photo again");
        }
        boolean jpeg = format == Photo.Format.JPEG;
        Photo.checkPixels(sizePx[0], sizePx[1], name, jpeg ? Photo.MAX_JPEG_PIXELS : Photo.MAX_PIXELS);
        int sampleSize = jpeg ? jpegSampleSize(sizePx[0], sizePx[1]) : 1;
        Photo.checkPixels((sizePx[0] - 1) / sampleSize + 1, (sizePx[1] - 1) / sampleSize + 1, name, Photo.MAX_PIXELS);
        PhotoMemory.require(photo, format, sizePx[0], sizePx[1], sampleSize, name);
        return decoder.decode(photo, sampleSize).upright(Photo.orientation(photo, format));
    }

    /** How many times smaller a JPEG is decoded: 1, 2, 4 or 8; Pillow's `draft` with the contract's oversampling. */
    public final int jpegSampleSize(int widthPx, int heightPx) {
        if (!contract.decodeScaling.equals("jpeg_dct")) {
            return 1;
        }
        double needed = Math.max(contract.heightPx, contract.widthPx) * (double) contract.decodeOversampling;
        int neededPx = (int) -floorDivide(-needed, contract.cropFraction);
        int scale = Math.min(widthPx / neededPx, heightPx / neededPx);
        return scale >= 8 ? 8 : scale >= 4 ? 4 : scale >= 2 ? 2 : 1;
    }

    /** Python's `//` of two floats: exact where Math.floor of a rounded quotient is one off. */
    private static double floorDivide(double value, double by) {
        double rest = value % by;
        double quotient = (value - rest) / by;
        return Math.rint(rest != 0 && rest < 0 != by < 0 ? quotient - 1 : quotient);
    }

    /** The region that is kept: left, top, right, bottom. Sides round half up, margins down. */
    public int[] cropBox(int widthPx, int heightPx) {
        int cropWidthPx;
        int cropHeightPx;
        if (contract.crop.equals("center_square")) {
            cropWidthPx = roundHalfUp(Math.min(widthPx, heightPx) * contract.cropFraction);
            cropHeightPx = cropWidthPx;
        } else {
            cropWidthPx = roundHalfUp(widthPx * contract.cropFraction);
            cropHeightPx = roundHalfUp(heightPx * contract.cropFraction);
        }
        int left = (widthPx - cropWidthPx) / 2;
        int top = (heightPx - cropHeightPx) / 2;
        return new int[] {left, top, left + cropWidthPx, top + cropHeightPx};
    }

    private static int roundHalfUp(double sidePx) {
        return Math.max(1, (int) (sidePx + 0.5));
    }

    /** Cuts the contract's region out of an upright photo. */
    public RgbImage crop(RgbImage image) {
        return image.region(cropBox(image.widthPx, image.heightPx));
    }

    /** Resizes to the input's size with Pillow's BILINEAR. */
    public RgbImage resize(RgbImage image) {
        return PillowResize.resize(
                image, contract.widthPx, contract.heightPx, PillowResize.Filter.BILINEAR);
    }

    /** The whole way from photo bytes to pixels: heightPx * widthPx * 3 bytes. */
    public final byte[] fitPixels(byte[] photo, String name) {
        return resize(crop(decodeRgb(photo, name))).rgb;
    }

    /** Turns pixels into the bytes of the input tensor. */
    public final byte[] inputBytes(byte[] pixelsU8, TensorSpec input) {
        byte[] tensor = new byte[input.quantized() ? pixelsU8.length : 4 * pixelsU8.length];
        if (input.quantized()) {
            byte[] table = quantizedTable(input);
            for (int i = 0; i < tensor.length; i++) {
                tensor[i] = table[pixelsU8[i] & 0xFF];
            }
            return tensor;
        }
        float[] table = new float[256];
        for (int pixel = 0; pixel < 256; pixel++) {
            table[pixel] = (float) ((pixel - contract.mean) / contract.std);
        }
        ByteBuffer floats = ByteBuffer.wrap(tensor).order(ByteOrder.LITTLE_ENDIAN);
        for (byte pixel : pixelsU8) {
            floats.putFloat(table[pixel & 0xFF]);
        }
        return tensor;
    }

    private byte[] quantizedTable(TensorSpec input) {
        int low = input.dtype().equals("uint8") ? 0 : -128;
        byte[] table = new byte[256];
        for (int pixel = 0; pixel < 256; pixel++) {
            double real = (pixel - contract.mean) / contract.std;
            double quantized = nearest(real / input.scale()) + input.zeroPoint();
            table[pixel] = (byte) (int) Math.max(low, Math.min(low + 255, quantized));
        }
        return table;
    }

    /** Nearest integer, halves away from zero, as TFLite's TfLiteRound. */
    protected double nearest(double value) {
        return value >= 0 ? Math.floor(value + 0.5) : -Math.floor(-value + 0.5);
    }
}
