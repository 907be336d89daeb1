package dermedge.core;

import java.util.Arrays;
import java.util.List;

/** A .tflite with its contract; `model_file.py` in Java. */
public final class ModelFile {
    /** As in Python. */
    public static final int MAX_BYTES = 512 * 1024 * 1024;

    private static final int MAX_CONTRACT_BYTES = 1024 * 1024;

    private final String name;
    private final byte[] data;
    private final Contract contract;
    private final TensorSpec input;
    private final TensorSpec output;
    private final String sha256;

    private ModelFile(String name, byte[] data, Contract contract, TensorSpec[] ends) {
        this.name = name;
        this.data = data;
        this.contract = contract;
        this.input = ends[0];
        this.output = ends[1];
        this.sha256 = Bytes.sha256(data);
    }

    /** Opens a model from its bytes, which are kept and must not change; `name` is named in errors. */
    public static ModelFile open(byte[] data, String name) {
        if (data.length > MAX_BYTES) {
            throw new EdgeException(
                    EdgeException.Code.MODEL_TOO_LARGE,
                    name + ": the model file is too large",
                    data.length + " bytes",
                    "at most " + MAX_BYTES + " bytes",
                    "give a model for small devices");
        }
        ZipTail tail = new ZipTail(data, name);
        TensorSpec[] ends = new GraphWalk(data, tail.start(), name).ends();
        Contract contract = readContract(tail, name);
        TensorSpec.check(contract, ends[0], ends[1], name);
        return new ModelFile(name, data, contract, ends);
    }

    /**
     * As `open`, of a file that is signed as wanted, which is verified before anything is parsed.
     *
     * @param signature the content of MODEL.sig
     * @param publicKey an Ed25519 public key in PEM form
     * @param minVersion the oldest version to accept, N or NAME:N; null accepts any, and the older form
     */
    public static ModelFile openSigned(
            byte[] data, byte[] signature, byte[] publicKey, String minVersion, String name) {
        String signed = ModelSignature.verify(data, signature, publicKey, minVersion, name);
        ModelFile model = open(data, name);
        if (signed != null && !signed.equals(model.contract.modelId())) {
            throw ModelSignature.unsigned(name, "a signature of the model " + signed);
        }
        return model;
    }

    private static Contract readContract(ZipTail tail, String name) {
        byte[] text = tail.read(Contract.ENTRY);
        if (text == null) {
            throw new EdgeException(
                    EdgeException.Code.CONTRACT_MISSING,
                    name + ": the model carries no contract",
                    "entries " + tail.names(),
                    "a zip tail with the entry " + Contract.ENTRY,
                    "convert the model with dermedge convert");
        }
        String inside = name + ", entry " + Contract.ENTRY;
        Contract contract = ContractReader.read(utf8(text, inside), inside);
        byte[] labels = tail.read(Contract.LABELS_ENTRY);
        if (labels != null && !isListOf(contract.codes(), labels)) {
            throw new EdgeException(
                    EdgeException.Code.CONTRACT_INVALID,
                    name + ": " + Contract.LABELS_ENTRY + " and the contract name different labels",
                    labels.length + " bytes",
                    contract.codes().toString(),
                    "convert the model again with dermedge convert");
        }
        return contract;
    }

    /** Whether labels.txt holds these codes, a line each; the last line's end may be missing. */
    private static boolean isListOf(List<String> codes, byte[] labels) {
        StringBuilder lines = new StringBuilder();
        for (String code : codes) {
            lines.append(code).append('\n');
        }
        byte[] whole = lines.toString().getBytes(ZipTail.UTF_8);
        return Arrays.equals(labels, whole) || Arrays.equals(labels, Arrays.copyOf(whole, whole.length - 1));
    }

    /** The text of a contract, of bounded size; Java alone would replace what is not UTF-8. */
    private static String utf8(byte[] text, String where) {
        String found = text.length + " bytes";
        if (text.length <= MAX_CONTRACT_BYTES) {
            try {
                return ZipTail.UTF_8.newDecoder().decode(java.nio.ByteBuffer.wrap(text)).toString();
            } catch (java.nio.charset.CharacterCodingException error) {
                found = "bytes that are not UTF-8";
            }
        }
        throw new EdgeException(
                EdgeException.Code.CONTRACT_INVALID,
                where + ": not a contract",
                found,
                "at most " + MAX_CONTRACT_BYTES + " bytes of UTF-8",
                "convert the model again with dermedge convert");
    }

    /** A stored entry of the zip tail, by name. */
    public byte[] readEntry(String entry) {
        byte[] content = new ZipTail(data, name).read(entry);
        if (content == null) {
            throw new EdgeException(
                    EdgeException.Code.CONTRACT_INVALID,
                    name + ": the model has no entry " + entry,
                    "",
                    entry,
                    "convert the model again with dermedge convert");
        }
        return content;
    }

    public String name() {
        return name;
    }

    /** The whole file; not a copy. */
    public byte[] data() {
        return data;
    }

    public Contract contract() {
        return contract;
    }

    public TensorSpec input() {
        return input;
    }

    public TensorSpec output() {
        return output;
    }

    /** Of the whole file, 64 hex digits. */
    public String sha256() {
        return sha256;
    }
}
