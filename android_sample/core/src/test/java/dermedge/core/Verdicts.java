package dermedge.core;

import java.io.BufferedReader;
import java.io.DataInputStream;
import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStreamReader;

/**
 * Reads names of model files from stdin and prints for each `ok`, or the code of the error that refuses it. With the
 * arguments KEY and NAME:N each file's signature beside it is verified.
 */
public final class Verdicts {
    private Verdicts() {}

    public static void main(String[] arguments) throws IOException {
        BufferedReader names = new BufferedReader(new InputStreamReader(System.in, "UTF-8"));
        for (String name = names.readLine(); name != null; name = names.readLine()) {
            byte[] signature = arguments.length == 0 ? null : bytes(new File(name + ".sig"));
            System.out.println(of(bytes(new File(name)), signature, arguments));
        }
    }

    private static String of(byte[] data, byte[] signature, String[] wanted) throws IOException {
        try {
            if (signature == null) {
                ModelFile.open(data, "model");
            } else {
                ModelFile.openSigned(data, signature, bytes(new File(wanted[0])), wanted[1], "model");
            }
            return "ok";
        } catch (EdgeException error) {
            return error.code().toString();
        } catch (RuntimeException error) {
            return "WRONG " + error;
        }
    }

    private static byte[] bytes(File file) throws IOException {
        byte[] data = new byte[(int) file.length()];
        DataInputStream input = new DataInputStream(new FileInputStream(file));
        try {
            input.readFully(data);
        } finally {
            input.close();
        }
        return data;
    }
}
