package dermedge.core;

import java.util.ArrayList;
import java.util.List;

/**
 * A bounds-checked walk through a .tflite before native code sees it, with the operators' allow-list; `flatbuffer.py` in
 * Java. The two refuse the same files: a test runs generated graphs through both.
 */
final class GraphWalk {
    private static final int MAX_RANK = 8;
    private static final long MAX_TENSOR_BYTES = 256L * 1024 * 1024;
    private static final long MAX_COMPUTED_BYTES = 2L * 1024 * 1024 * 1024;
    private static final double MIN_SCALE = 1e-20;
    private static final double MAX_SCALE = 1e18;

    private final byte[] data;
    private final int end;
    private final String where;

    /** Reads only bytes below `end`, where the zip tail begins. */
    GraphWalk(byte[] data, int end, String where) {
        this.data = data;
        this.end = end;
        this.where = where;
        if (data.length < 8 || !Bytes.startsWith(data, 4, "TFL3")) {
            throw new EdgeException(
                    EdgeException.Code.NOT_A_TFLITE,
                    where + ": not a .tflite file",
                    data.length + " bytes",
                    "the identifier TFL3 at byte 4",
                    "give a .tflite file made by `dermedge convert`");
        }
    }

    /** The only input and the only output of the graph. */
    TensorSpec[] ends() {
        try {
            int[] budget = {FlatTable.WALK_BUDGET};
            return walk(new FlatTable(data, end, Bytes.u32(data, 0), "Model", budget));
        } catch (Operators.Unsupported problem) {
            throw new EdgeException(
                    EdgeException.Code.MODEL_UNSUPPORTED,
                    where + ": the model is not supported",
                    problem.getMessage(),
                    "one graph of the listed operators",
                    "Convert the network with a fixed input size and standard layers");
        } catch (FlatTable.Malformed problem) {
            throw new EdgeException(
                    EdgeException.Code.NOT_A_TFLITE,
                    where + ": the .tflite file is damaged or incomplete",
                    problem.getMessage(),
                    "a well-formed TensorFlow Lite flatbuffer",
                    "copy the file again, or convert the model again");
        }
    }

    private TensorSpec[] walk(FlatTable root) {
        if (root.uint32(0) != 3) {
            throw new FlatTable.Malformed("flatbuffer schema version " + root.uint32(0) + ", not 3");
        }
        FlatTable[] codes = root.children(1, "OperatorCode");
        int[] numbers = new int[codes.length];
        for (FlatTable code : codes) {
            code.text(1, false);
        }
        for (int i = 0; i < codes.length; i++) {
            numbers[i] = operatorNumber(codes[i]);
        }
        List<int[]> buffers = new ArrayList<int[]>();
        for (FlatTable buffer : root.children(4, "Buffer")) {
            if (buffer.aboveOne(1)) {
                throw new FlatTable.Malformed(buffer.name + " keeps its data outside the flatbuffer");
            }
            buffers.add(buffer.vector(0, 1));
        }
        for (FlatTable metadata : root.children(6, "Metadata")) {
            metadata.text(0, false);
            require(metadata.uint32(1), buffers.size(), metadata.name, "buffer");
        }
        if (root.vector(8, 4)[1] > 0 || root.vector(9, 4)[1] > 0) {
            throw new Operators.Unsupported("constants outside the file, in external buffers");
        }
        FlatTable[] subgraphs = root.children(2, "SubGraph");
        if (subgraphs.length == 0) {
            throw new FlatTable.Malformed("the model has no subgraph");
        }
        if (subgraphs.length > 1) {
            throw new Operators.Unsupported(subgraphs.length + " subgraphs, not one");
        }
        TensorSpec[][] ends = walkGraph(subgraphs[0], buffers, numbers);
        for (FlatTable signature : root.children(7, "SignatureDef")) {
            require(signature.uint32(4), 1, signature.name, "subgraph");
            signature.text(2, true);
            for (int role = 0; role < 2; role++) {
                int[] known = subgraphs[0].ints(role + 1);
                for (FlatTable entry : signature.children(role, "TensorMap")) {
                    entry.text(0, true);
                    boolean found = false;
                    for (int index : known) {
                        found |= entry.uint32(1) == index;
                    }
                    if (!found) {
                        throw new FlatTable.Malformed(entry.name + " of " + signature.name + " is no input or output");
                    }
                }
            }
        }
        if (ends[0].length != 1 || ends[1].length != 1) {
            throw new FlatTable.Malformed(
                    ends[0].length + " inputs and " + ends[1].length + " outputs, the contract knows one of each");
        }
        return new TensorSpec[] {ends[0][0], ends[1][0]};
    }

    private static int operatorNumber(FlatTable code) {
        int old = code.signedByte(0, 0);
        int now = code.int32(3, 0);
        boolean fits = now == 0 || now == old || ((old == 0 || old == 127) && now >= 127);
        if (old < 0 || now < 0 || !fits) {
            throw new FlatTable.Malformed(code.name + " has the operator numbers " + old + " and " + now);
        }
        return Math.max(old, now);
    }

    private TensorSpec[][] walkGraph(FlatTable graph, List<int[]> buffers, int[] numbers) {
        FlatTable[] tables = graph.children(0, "Tensor");
        TensorSpec[] specs = new TensorSpec[tables.length];
        Operators.Operand[] operands = new Operators.Operand[tables.length];
        boolean[] known = new boolean[tables.length];
        for (int i = 0; i < tables.length; i++) {
            operands[i] = walkTensor(tables[i], buffers, specs, i);
            known[i] = operands[i].content != null;
        }
        TensorSpec[][] ends = new TensorSpec[2][];
        for (int role = 0; role < 2; role++) {
            int[] indices = graph.ints(role + 1);
            ends[role] = new TensorSpec[indices.length];
            for (int i = 0; i < indices.length; i++) {
                require(indices[i], specs.length, graph.name, "tensor");
                ends[role][i] = specs[indices[i]];
            }
        }
        for (int index : graph.ints(1)) {
            known[index] = true;
        }
        long work = 0;
        for (FlatTable operator : graph.children(3, "Operator")) {
            work += walkOperator(operator, operands, numbers, known);
        }
        for (int index : graph.ints(2)) {
            if (!known[index]) {
                throw new FlatTable.Malformed(graph.name + " gives tensor " + index + " out, which nothing makes");
            }
        }
        long computed = 0;
        for (int i = 0; i < operands.length; i++) {
            computed += known[i] && operands[i].content == null ? operands[i].sizeBytes : 0;
        }
        if (work > Operators.MAX_MULTIPLY_ADDS || computed > MAX_COMPUTED_BYTES) {
            throw new Operators.Unsupported(work + " multiply-adds and " + computed + " bytes of computed tensors");
        }
        return ends;
    }

    private static long walkOperator(
            FlatTable operator, Operators.Operand[] operands, int[] numbers, boolean[] known) {
        long code = operator.uint32(0);
        require(code, numbers.length, operator.name, "operator code");
        int[] inputs = operator.ints(1);
        int[] outputs = operator.ints(2);
        if (operator.ints(8).length > 0) {
            throw new Operators.Unsupported(operator.name + " has intermediate tensors");
        }
        Operators.Operand[] read = new Operators.Operand[inputs.length];
        Operators.Operand[] made = new Operators.Operand[outputs.length];
        for (int i = 0; i < inputs.length; i++) {
            if (inputs[i] != -1) {
                require(inputs[i], operands.length, operator.name, "tensor");
                read[i] = operands[inputs[i]];
            }
        }
        for (int i = 0; i < outputs.length; i++) {
            require(outputs[i], operands.length, operator.name, "tensor");
            made[i] = operands[outputs[i]];
        }
        operator.vector(5, 1);
        operator.vector(7, 1);
        operator.child(12, "options 2");
        FlatTable options = operator.child(4, "options");
        long work = Operators.check(
                operator.name, numbers[(int) code], read, made, options, operator.unsignedByte(3));
        for (int index : inputs) {
            if (index != -1 && !known[index]) {
                throw new FlatTable.Malformed(operator.name + " reads tensor " + index + " before anything made it");
            }
        }
        for (int index : outputs) {
            if (known[index]) {
                throw new FlatTable.Malformed(operator.name + " writes tensor " + index + ", which has a value already");
            }
        }
        for (int index : outputs) {
            known[index] = true;
        }
        return work;
    }

    private static Operators.Operand walkTensor(
            FlatTable table, List<int[]> buffers, TensorSpec[] specs, int index) {
        int[] shape = table.ints(0);
        boolean negative = false;
        for (int side : shape) {
            negative |= side < 0;
        }
        if (shape.length > MAX_RANK || negative) {
            throw new FlatTable.Malformed(table.name + " has a shape of " + shape.length + " sides");
        }
        int[] signature = table.ints(7);
        boolean below = false;
        for (int side : signature) {
            below |= side < -1;
        }
        if (signature.length > 0 && (signature.length != shape.length || below)) {
            throw new FlatTable.Malformed(table.name + " has a shape signature that does not fit");
        }
        int type = table.signedByte(1, 0);
        String dtype = Operators.dtype(type);
        if (dtype == null) {
            throw new FlatTable.Malformed(table.name + " has the type number " + type);
        }
        table.text(3, false);
        long buffer = table.uint32(2);
        require(buffer, buffers.size(), table.name, "buffer");
        int start = buffers.get((int) buffer)[0];
        long stored = buffers.get((int) buffer)[1];
        double size = 1;
        for (int side : shape) {
            size *= side;
        }
        double wanted = Math.floor((size * Operators.bits(type) + 7) / 8);
        if (wanted > MAX_TENSOR_BYTES) {
            throw new FlatTable.Malformed(table.name + " has " + wanted + " bytes");
        }
        if (table.child(6, "sparsity") != null || table.signedByte(5, 0) != 0) {
            throw new Operators.Unsupported(table.name + " is sparse or a variable");
        }
        if (stored != 0 && stored != (long) wanted) {
            throw new FlatTable.Malformed(table.name + " has " + stored + " bytes, not " + (long) wanted);
        }
        double[] quantization = quantization(table, shape, dtype);
        specs[index] = new TensorSpec(
                signature.length > 0 ? signature : shape, dtype, quantization[0], (int) quantization[1]);
        int[] content = null;
        if (stored != 0) {
            content = new int[(int) Math.min(stored, 64) / 4];
            for (int i = 0; i < content.length; i++) {
                content[i] = Bytes.i32(table.data, start + 4 * i);
            }
        }
        return new Operators.Operand(shape, dtype, content, (long) wanted, quantization[0]);
    }

    /** Scale and zero point of a tensor with one of each; zeros when it has none or one per channel. */
    private static double[] quantization(FlatTable table, int[] shape, String dtype) {
        FlatTable given = table.child(4, "quantization");
        if (given == null) {
            return new double[2];
        }
        given.vector(0, 4);
        given.vector(1, 4);
        int[] scales = given.counted(2, 4);
        int[] points = given.vector(3, 8);
        boolean zeros = true;
        for (int i = 0; i < 8 * points[1] && zeros; i++) {
            zeros = given.data[points[0] + i] == 0;
        }
        if (!zeros) {
            points = given.counted(3, 8);
        }
        given.child(5, "details");
        int pointCount = zeros ? Math.min(points[1], FlatTable.MAX_ITEMS) : points[1];
        if (pointCount != 0 && pointCount != 1 && pointCount != scales[1]) {
            throw new FlatTable.Malformed(
                    table.name + " has " + scales[1] + " scales and " + pointCount + " zero points");
        }
        double least = scales[1] == 1 ? MIN_SCALE : 0;
        double sum = 0;
        for (int i = 0; i < scales[1]; i++) {
            double scale = Float.intBitsToFloat(Bytes.i32(given.data, scales[0] + 4 * i));
            sum += scale;
            if (scale < least || sum > MAX_SCALE || Double.isNaN(scale)) {
                throw new FlatTable.Malformed(table.name + " has a scale that is too small, too large or not finite");
            }
        }
        long low = 0;
        long high = 0;
        if (dtype.equals("int8")) {
            low = -128;
            high = 127;
        } else if (dtype.equals("uint8")) {
            high = 255;
        } else if (dtype.equals("int16")) {
            low = -32768;
            high = 32767;
        } else if (dtype.equals("int4")) {
            low = -8;
            high = 7;
        }
        long first = 0;
        for (int i = 0; i < pointCount && !zeros; i++) {
            long point = Bytes.u32(given.data, points[0] + 8 * i)
                    | (long) Bytes.i32(given.data, points[0] + 8 * i + 4) << 32;
            first = i == 0 ? point : first;
            if (point < low || point > high) {
                throw new FlatTable.Malformed(table.name + " has a zero point that " + dtype + " does not have");
            }
        }
        if (scales[1] > 1) {
            int axis = given.int32(6, 0);
            if (axis < 0 || axis >= shape.length || shape[axis] != scales[1]) {
                throw new FlatTable.Malformed(table.name + " has " + scales[1] + " scales for axis " + axis);
            }
            return new double[2];
        }
        return scales[1] == 0
                ? new double[2]
                : new double[] {Float.intBitsToFloat(Bytes.i32(given.data, scales[0])), first};
    }

    private static void require(long index, int count, String name, String what) {
        if (index < 0 || index >= count) {
            throw new FlatTable.Malformed(name + " names " + what + " " + index + " of " + count);
        }
    }
}
