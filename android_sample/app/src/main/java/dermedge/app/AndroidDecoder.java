package dermedge.app;

import android.graphics.Bitmap;
import android.graphics.BitmapFactory;
import dermedge.core.EdgeException;
import dermedge.core.Photo;
import dermedge.core.RgbImage;
import java.nio.ByteBuffer;

/** JPEG, WebP and BMP by the phone. Raw samples, because Python looks at no colour profile either. */
final class AndroidDecoder implements Photo.PlatformDecoder {
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
        Bitmap bitmap = BitmapFactory.decodeByteArray(photo, 0, photo.length, options);
        if (bitmap == null || bitmap.getConfig() != Bitmap.Config.ARGB_8888) {
            throw new EdgeException(
                    EdgeException.Code.IMAGE_UNREADABLE, "the image is damaged or incomplete", "", "a complete image file",
                    "copy or export the photo again");
        }
        byte[] rgba = new byte[bitmap.getByteCount()];
        // Not getPixels, which converts to sRGB.
        bitmap.copyPixelsToBuffer(ByteBuffer.wrap(rgba));
        RgbImage image = RgbImage.overWhite(bitmap.getWidth(), bitmap.getHeight(), rgba);
        bitmap.recycle();
        return image;
    }
}
