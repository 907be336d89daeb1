package dermedge.app;

import android.content.Context;
import android.net.Uri;
import dermedge.core.EdgeException;
import dermedge.core.Photo;
import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;

/** A photo that is still to be read: behind another app's address, or in the file that the camera app wrote. */
final class PhotoSource {
    private final Uri address;
    private final File taken;

    private PhotoSource(Uri address, File taken) {
        this.address = address;
        this.taken = taken;
    }

    /** What a picker or a share names. The right to read it ends with the activity that was given it. */
    static PhotoSource behind(Uri address) {
        return new PhotoSource(address, null);
    }

    /** A file of this app's own, which goes with the reading. */
    static PhotoSource taken(File file) {
        return new PhotoSource(null, file);
    }

    /**
     * Its bytes. Never on the screen's thread: behind an address there may be a cloud.
     *
     * @throws EdgeException it cannot be read, is empty or too large
     */
    byte[] read(Context context) {
        try {
            return Photo.read(
                    taken == null ? context.getContentResolver().openInputStream(address) : new FileInputStream(taken),
                    Session.PHOTO_NAME);
        } catch (EdgeException refused) {
            throw refused;
        } catch (IOException | RuntimeException refused) {
            // The owner is another app, and throws what it likes.
            throw Photo.unreachable(Session.PHOTO_NAME, refused.toString(), refused);
        } finally {
            discard();
        }
    }

    /** Nobody wants it any more. */
    void discard() {
        if (taken != null) {
            taken.delete();
        }
    }
}
