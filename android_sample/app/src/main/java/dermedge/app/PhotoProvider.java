package dermedge.app;

import android.content.ContentProvider;
import android.content.ContentValues;
import android.content.Context;
import android.database.Cursor;
import android.net.Uri;
import android.os.ParcelFileDescriptor;
import java.io.File;
import java.io.FileNotFoundException;
import java.io.IOException;

/** Lets the camera app write one file, while the grant of one intent lasts. It stays no longer than it takes to read it. */
public final class PhotoProvider extends ContentProvider {
    static final Uri PHOTO = Uri.parse("content://dermedge.app.photo/photo.jpg");

    private static final String CLAIMED = "taken";

    static File file(Context context) {
        return new File(context.getCacheDir(), "photo.jpg");
    }

    /** Takes the file out of the next capture's way; whoever reads it deletes it. */
    static File claim(Context context) throws IOException {
        File claimed = File.createTempFile(CLAIMED, ".jpg", context.getCacheDir());
        if (!file(context).renameTo(claimed)) {
            claimed.delete();
            throw new FileNotFoundException("the camera app left no photo");
        }
        return claimed;
    }

    /** Deletes what a process claimed that ended before it read it. */
    static void deleteUnread(Context context) {
        File[] files = context.getCacheDir().listFiles();
        for (File file : files == null ? new File[0] : files) {
            if (file.getName().startsWith(CLAIMED)) {
                file.delete();
            }
        }
    }

    @Override
    public boolean onCreate() {
        return true;
    }

    @Override
    public ParcelFileDescriptor openFile(Uri uri, String mode) throws FileNotFoundException {
        if (!PHOTO.equals(uri)) {
            throw new FileNotFoundException(uri.toString());
        }
        return ParcelFileDescriptor.open(file(getContext()), ParcelFileDescriptor.parseMode(mode));
    }

    @Override
    public String getType(Uri uri) {
        return "image/jpeg";
    }

    @Override
    public Cursor query(Uri uri, String[] columns, String where, String[] values, String order) {
        return null;
    }

    @Override
    public Uri insert(Uri uri, ContentValues values) {
        throw new UnsupportedOperationException();
    }

    @Override
    public int delete(Uri uri, String where, String[] values) {
        throw new UnsupportedOperationException();
    }

    @Override
    public int update(Uri uri, ContentValues content, String where, String[] values) {
        throw new UnsupportedOperationException();
    }
}
