package dermedge.app;

import android.graphics.Bitmap;
import android.graphics.BitmapFactory;
import android.graphics.Matrix;
import android.os.Build;
import dermedge.core.EdgeException;
import dermedge.core.Photo;
import dermedge.core.RgbImage;
import java.lang.reflect.Method;

/** JPEG, WebP and BMP by the phone, and PNG with a colour profile. In sRGB, as in Python; before API 26 phones ignore profiles. */
final class AndroidDecoder implements Photo.PlatformDecoder {
    private static final int API_WITH_COLOR_SPACES = 26;

    @Override
    public int[] sizePx(byte[] photo) {
        BitmapFactory.Options options = new BitmapFactory.Options();
        options.inJustDecodeBounds = true;
        BitmapFactory.decodeByteArray(photo, 0, photo.length, options);
        return options.outWidth <= 0 ? null : new int[] {options.outWidth, options.outHeight};
    }

    @Override
    public RgbImage decode(byte[] photo, int sampleSize) {
        BitmapFactory.Options options = new BitmapFactory.Options();
        options.inSampleSize = sampleSize;
        options.inPreferredConfig = Bitmap.Config.ARGB_8888;
        // Straight alpha: what was premultiplied cannot be blended over white exactly.
        options.inPremultiplied = false;
        convertToSrgb(options);
        Bitmap bitmap = BitmapFactory.decodeByteArray(photo, 0, photo.length, options);
        if (bitmap == null || bitmap.getConfig() != Bitmap.Config.ARGB_8888) {
            throw new EdgeException(
                    EdgeException.Code.IMAGE_UNREADABLE, "the image is damaged or incomplete", "", "a complete image file",
                    "copy or export the photo again");
        }
        try {
            // A bitmap is no proof of a photo: rows that could not be decoded are there too, transparent.
            return Photo.decoded(photo, bitmap.getWidth(), bitmap.getHeight(), straightRgba(bitmap));
        } finally {
            bitmap.recycle();
        }
    }

    /** Row by row through ints, whose order is the same everywhere; the memory's is not. */
    private static byte[] straightRgba(Bitmap bitmap) {
        int widthPx = bitmap.getWidth();
        int[] row = new int[widthPx];
        byte[] rgba = new byte[Math.multiplyExact(4 * widthPx, bitmap.getHeight())];
        int to = 0;
        for (int y = 0; y < bitmap.getHeight(); y++) {
            bitmap.getPixels(row, 0, widthPx, 0, y, widthPx, 1);
            for (int argb : row) {
                rgba[to++] = (byte) (argb >> 16);
                rgba[to++] = (byte) (argb >> 8);
                rgba[to++] = (byte) argb;
                rgba[to++] = (byte) (argb >>> 24);
            }
        }
        return rgba;
    }

    /** By reflection: the field and its class are younger than the API level that the app is compiled against. */
    private static void convertToSrgb(BitmapFactory.Options options) {
        if (Build.VERSION.SDK_INT < API_WITH_COLOR_SPACES) {
            return;
        }
        try {
            Class<?> named = Class.forName("android.graphics.ColorSpace$Named");
            Object srgb = named.getField("SRGB").get(null);
            Method get = Class.forName("android.graphics.ColorSpace").getMethod("get", named);
            BitmapFactory.Options.class.getField("inPreferredColorSpace").set(options, get.invoke(null, srgb));
        } catch (ReflectiveOperationException error) {
            throw new IllegalStateException("API " + Build.VERSION.SDK_INT + " has no colour spaces", error);
        }
    }

    /** The photo for the screen, upright, its longer side not above twice `sidePx`; null when the phone cannot decode it. */
    static Bitmap preview(byte[] photo, int sidePx) {
        BitmapFactory.Options options = new BitmapFactory.Options();
        int[] sizePx = new AndroidDecoder().sizePx(photo);
        options.inSampleSize = sizePx == null ? 1 : Math.max(1, Math.max(sizePx[0], sizePx[1]) / sidePx);
        Bitmap bitmap = BitmapFactory.decodeByteArray(photo, 0, photo.length, options);
        int orientation = Photo.orientation(photo);
        if (bitmap == null || orientation == 1) {
            return bitmap;
        }
        // 6 and 5 turn by 90 degrees, 3 and 4 by 180, 8 and 7 by 270; 2, 4, 5 and 7 are mirrored then.
        int[] degrees = {0, 0, 0, 180, 180, 90, 90, 270, 270};
        boolean mirrored = orientation == 2 || orientation == 4 || orientation == 5 || orientation == 7;
        Matrix upright = new Matrix();
        upright.postRotate(degrees[orientation]);
        upright.postScale(mirrored ? -1 : 1, 1);
        return Bitmap.createBitmap(bitmap, 0, 0, bitmap.getWidth(), bitmap.getHeight(), upright, true);
    }
}
