package dermedge.core;

import java.util.Arrays;

/** One operator with its operands, and the rules by which its output shape follows; the rules of `operators.py`. */
final class OperatorNode {
    private final Operators.Kind kind;
    private final Operators.Operand[] inputs;
    private final Operators.Operand[] outputs;
    private final FlatTable options;
    private long work;

    OperatorNode(Operators.Kind kind, Operators.Operand[] inputs, Operators.Operand[] outputs, FlatTable options) {
        this.kind = kind;
        this.inputs = inputs;
        this.outputs = outputs;
        this.options = options;
    }

    long check(int givenOptions) {
        boolean missing = false;
        for (int i = 0; i < Math.min(Math.min(kind.fewest, 2), inputs.length); i++) {
            missing |= inputs[i] == null;
        }
        if (inputs.length < kind.fewest || inputs.length > kind.most || missing) {
            throw new Operators.Unsupported("it has " + inputs.length + " inputs");
        }
        if (outputs.length < 1 || outputs.length > kind.mostOutputs) {
            throw new Operators.Unsupported("it has " + outputs.length + " outputs");
        }
        if (givenOptions != kind.optionType && !(kind.optionsOptional && givenOptions == 0)) {
            throw new Operators.Unsupported("its options are of type " + givenOptions + ", not " + kind.optionType);
        }
        if (options == null && !kind.optionsOptional) {
            throw new Operators.Unsupported("its options are missing");
        }
        int number = 0;
        for (Operators.Operand[] side : new Operators.Operand[][] {inputs, outputs}) {
            for (Operators.Operand one : side) {
                if (one != null && one.isQuantized() && one.scale == 0 && (side == outputs || !kind.isFilter(number))) {
                    throw new Operators.Unsupported("a quantized tensor has not one scale");
                }
                number++;
                if (one != null && (one.shape.length > Operators.MAX_RANK || Shapes.contains(one.shape, 0))) {
                    throw new Operators.Unsupported("a tensor has the shape " + Arrays.toString(one.shape));
                }
            }
        }
        if (!kind.takes(inputs, outputs)) {
            throw new Operators.Unsupported("its types do not go together");
        }
        int[] shape = shape();
        for (Operators.Operand output : outputs) {
            if (!Arrays.equals(output.shape, shape)) {
                throw new Operators.Unsupported("the output is " + Arrays.toString(output.shape) + ", and "
                        + Arrays.toString(shape) + " follows from its inputs");
            }
        }
        return work;
    }

    private int[] shape() {
        switch (kind.rule) {
            case "same":
                return done(shape(0), 1);
            case "softmax":
                return softmax();
            case "broadcast":
                return broadcast();
            case "convolution":
                return convolution();
            case "depthwise":
                return depthwise();
            case "pool":
                return pool();
            case "fully_connected":
                return fullyConnected();
            case "concatenation":
                return concatenation();
            case "reshape":
                return reshape();
            case "resize":
                return resize();
            case "pad":
                return pad();
            case "transpose":
                return transpose();
            case "reduce":
                return reduce();
            case "squeeze":
                return squeeze();
            case "expand_dims":
                return expandDims();
            case "split":
                return split();
            case "slice":
                return slice();
            case "strided_slice":
                return stridedSlice();
            case "batch_matmul":
                return batchMatmul();
            default:
                throw new IllegalStateException("no rule " + kind.rule);
        }
    }

    private int[] done(int[] shape, long factor) {
        work = Shapes.product(shape) * factor;
        return shape;
    }

    private Operators.Operand input(int index) {
        if (index >= inputs.length || inputs[index] == null) {
            throw new Operators.Unsupported("input " + index + " is missing");
        }
        return inputs[index];
    }

    private int[] shape(int index) {
        return input(index).shape;
    }

    private int[] shape(int index, int rank) {
        int[] found = shape(index);
        if (found.length != rank) {
            throw new Operators.Unsupported("input " + index + " has " + found.length + " sides, not " + rank);
        }
        return found;
    }

    private int bounded(int number, int value, int low, int high) {
        if (value < low || value > high) {
            throw new Operators.Unsupported("option " + number + " is " + value + ", not " + low + " to " + high);
        }
        return value;
    }

    private int small(int number, int high) {
        return bounded(number, options == null ? 0 : options.signedByte(number, 0), 0, high);
    }

    private int number(int number, int absent, int low, int high) {
        return bounded(number, options == null ? absent : options.int32(number, absent), low, high);
    }

    private int[] softmax() {
        int[] given = shape(0);
        if (given.length < 1 || given.length > 4) {
            throw new Operators.Unsupported("a softmax over " + given.length + " sides");
        }
        return done(given, 1);
    }

    private int[] broadcast() {
        int[] first = shape(0);
        int[] second = shape(1);
        int type = kind.optionType;
        if (type == 11 || type == 21 || type == 28 || type == 29) {
            small(0, 3);
        }
        int rank = Math.max(first.length, second.length);
        if (rank > 4 && !Arrays.equals(first, second)) {
            throw new Operators.Unsupported("broadcasting over " + rank + " sides");
        }
        boolean squared = kind.name.equals("SQUARED_DIFFERENCE");
        if ((squared || kind.name.equals("ADD") || kind.name.equals("SUB")) && input(0).isQuantized()) {
            Operators.requireFittingScales(input(0), input(1), outputs[0], squared);
        }
        return done(Shapes.together(first, second), 1);
    }

    private int window(int size, int kernel, int stride, int dilation, int padding) {
        long reach = (long) (kernel - 1) * dilation + 1;
        if (padding == 1 && reach > size) {
            throw new Operators.Unsupported("a window of " + reach + " pixels on " + size);
        }
        return padding == 1 ? (int) (size - reach) / stride + 1 : (size + stride - 1) / stride;
    }

    /** Height and width of a window's output; the options' numbers of stride width, height, dilation width, height. */
    private int[] sides(int kernelHeight, int kernelWidth, int... numbers) {
        int[] given = shape(0, 4);
        int padding = small(0, 1);
        int strideWidth = number(numbers[0], 0, 1, 1024);
        int strideHeight = number(numbers[1], 0, 1, 1024);
        int dilationWidth = numbers[2] < 0 ? 1 : number(numbers[2], 1, 1, 1024);
        int dilationHeight = numbers[3] < 0 ? 1 : number(numbers[3], 1, 1, 1024);
        return new int[] {
            window(given[1], kernelHeight, strideHeight, dilationHeight, padding),
            window(given[2], kernelWidth, strideWidth, dilationWidth, padding)
        };
    }

    private void requireBias(int channels) {
        Operators.Operand bias = inputs.length > 2 ? inputs[2] : null;
        if (bias != null && Shapes.product(bias.shape) != channels) {
            throw new Operators.Unsupported("a bias of " + Shapes.product(bias.shape) + " for " + channels + " channels");
        }
    }

    private int[] convolution() {
        int[] given = shape(0, 4);
        int[] filters = shape(1, 4);
        int depth = given[3];
        if (depth % filters[3] != 0 || filters[0] % (depth / filters[3]) != 0) {
            throw new Operators.Unsupported("filters of " + filters[3] + " channels on " + depth);
        }
        small(3, 3);
        requireBias(filters[0]);
        int[] sides = sides(filters[1], filters[2], 1, 2, 4, 5);
        return done(
                new int[] {given[0], sides[0], sides[1], filters[0]}, (long) filters[1] * filters[2] * filters[3]);
    }

    private int[] depthwise() {
        int[] given = shape(0, 4);
        int[] filters = shape(1, 4);
        int depth = given[3];
        boolean fits = filters[0] == 1 && filters[3] % depth == 0;
        int multiplier = fits ? number(3, 0, 0, 4096) : -1;
        if (!fits || (multiplier != 0 && multiplier != filters[3] / depth)) {
            throw new Operators.Unsupported("filters " + Arrays.toString(filters) + " on " + depth + " channels");
        }
        small(4, 3);
        requireBias(filters[3]);
        int[] sides = sides(filters[1], filters[2], 1, 2, 5, 6);
        return done(new int[] {given[0], sides[0], sides[1], filters[3]}, (long) filters[1] * filters[2]);
    }

    private int[] pool() {
        int[] given = shape(0, 4);
        int width = number(3, 0, 1, 4096);
        int height = number(4, 0, 1, 4096);
        small(5, 3);
        int[] sides = sides(height, width, 1, 2, -1, -1);
        return done(new int[] {given[0], sides[0], sides[1], given[3]}, (long) height * width);
    }

    private int[] fullyConnected() {
        int[] given = shape(0);
        int[] weights = shape(1, 2);
        small(0, 3);
        small(1, 0);
        boolean keep = small(2, 1) == 1;
        long size = Shapes.product(given);
        boolean fits = given.length > 0 && size % weights[1] == 0;
        if (!fits || (keep && given[given.length - 1] != weights[1])) {
            throw new Operators.Unsupported("weights for " + weights[1] + " numbers on " + Arrays.toString(given));
        }
        requireBias(weights[0]);
        int[] shape = {(int) (size / weights[1]), weights[0]};
        if (keep) {
            shape = given.clone();
            shape[shape.length - 1] = weights[0];
        }
        work = size * weights[0];
        return shape;
    }

    private int[] concatenation() {
        int[] shape = shape(0).clone();
        int rank = shape.length;
        int axis = number(0, 0, -rank, rank - 1);
        axis = axis < 0 ? axis + rank : axis;
        small(1, 3);
        for (int i = 1; i < inputs.length; i++) {
            int[] other = shape(i);
            boolean fits = other.length == rank;
            for (int side = 0; fits && side < rank; side++) {
                fits = side == axis || other[side] == shape[side];
            }
            if (!fits) {
                throw new Operators.Unsupported(Arrays.toString(shape) + " and " + Arrays.toString(other));
            }
            shape[axis] += other[axis];
        }
        return done(shape, 1);
    }

    private int[] reshape() {
        long size = Shapes.product(shape(0));
        int[] wanted = input(1).integers(-1).clone();
        int free = -1;
        boolean fits = wanted.length <= Operators.MAX_RANK;
        long known = 1;
        for (int i = 0; i < wanted.length && fits; i++) {
            fits = wanted[i] > 0 || (wanted[i] == -1 && free < 0);
            if (wanted[i] == -1) {
                free = i;
            } else {
                known = Math.min(known * wanted[i], Integer.MAX_VALUE);
            }
        }
        if (fits && free >= 0) {
            wanted[free] = (int) (size / known);
            known *= wanted[free];
        }
        if (!fits || known != size) {
            throw new Operators.Unsupported("a reshape of " + size + " numbers to " + Arrays.toString(wanted));
        }
        return done(wanted, 1);
    }

    private int[] resize() {
        int[] given = shape(0, 4);
        int[] size = input(1).integers(2);
        if (size[0] <= 0 || size[0] > 4096 || size[1] <= 0 || size[1] > 4096) {
            throw new Operators.Unsupported("a resize to " + size[0] + " x " + size[1]);
        }
        int first = kind.name.equals("RESIZE_BILINEAR") ? 2 : 0;
        if (small(first, 1) == 1 && small(first + 1, 1) == 1) {
            throw new Operators.Unsupported("aligned corners and half pixels at once");
        }
        return done(new int[] {given[0], size[0], size[1], given[3]}, 4);
    }

    private int[] pad() {
        int[] shape = shape(0).clone();
        if (shape.length < 1 || shape.length > 4 || !Arrays.equals(shape(1, 2), new int[] {shape.length, 2})) {
            throw new Operators.Unsupported("padding of " + shape.length + " sides");
        }
        int[] amounts = input(1).integers(2 * shape.length);
        if (inputs.length > 2 && Shapes.product(shape(2)) != 1) {
            throw new Operators.Unsupported("padding with several values");
        }
        boolean reflect = kind.name.equals("MIRROR_PAD");
        int mode = reflect ? small(0, 1) : 0;
        for (int i = 0; i < amounts.length; i++) {
            int most = reflect ? shape(0)[i / 2] - 1 + mode : 4096;
            if (amounts[i] < 0 || amounts[i] > most) {
                throw new Operators.Unsupported("padding of " + amounts[i] + " pixels");
            }
            shape[i / 2] += amounts[i];
        }
        return done(shape, 1);
    }

    private int[] transpose() {
        int[] given = shape(0);
        int[] order = input(1).integers(given.length);
        int[] shape = new int[given.length];
        boolean[] seen = new boolean[given.length];
        for (int i = 0; i < order.length; i++) {
            if (order[i] < 0 || order[i] >= given.length || seen[order[i]]) {
                throw new Operators.Unsupported("a transposition by " + Arrays.toString(order));
            }
            seen[order[i]] = true;
            shape[i] = given[order[i]];
        }
        return done(shape, 1);
    }

    private int[] reduce() {
        int[] given = shape(0);
        int[] axes = input(1).integers(-1);
        boolean[] chosen = new boolean[given.length];
        for (int axis : axes) {
            if (axis < -given.length || axis >= given.length) {
                throw new Operators.Unsupported("axis " + axis + " of " + given.length + " sides");
            }
            chosen[axis < 0 ? axis + given.length : axis] = true;
        }
        boolean keep = small(0, 1) == 1;
        if (axes.length == 0 || given.length > 4) {
            throw new Operators.Unsupported("a reduction over " + given.length + " sides");
        }
        work = Shapes.product(given);
        return Shapes.without(given, chosen, keep);
    }

    private int[] squeeze() {
        int[] given = shape(0);
        int[] axes = options == null ? new int[0] : options.ints(0);
        boolean[] chosen = new boolean[given.length];
        if (axes.length > given.length) {
            throw new Operators.Unsupported(axes.length + " axes of " + given.length + " sides");
        }
        for (int axis : axes) {
            if (axis < -given.length || axis >= given.length) {
                throw new Operators.Unsupported("axis " + axis + " of " + given.length + " sides");
            }
            chosen[axis < 0 ? axis + given.length : axis] = true;
        }
        for (int i = 0; i < given.length; i++) {
            chosen[i] |= axes.length == 0 && given[i] == 1;
            if (chosen[i] && given[i] != 1) {
                throw new Operators.Unsupported("axis " + i + " of " + Arrays.toString(given) + " is not 1");
            }
        }
        return Shapes.without(given, chosen, false);
    }

    private int[] expandDims() {
        int[] given = shape(0);
        int axis = input(1).integers(1)[0];
        if (axis < -given.length - 1 || axis > given.length) {
            throw new Operators.Unsupported("axis " + axis + " of " + given.length + " sides");
        }
        axis = axis < 0 ? axis + given.length + 1 : axis;
        int[] shape = new int[given.length + 1];
        for (int i = 0; i < shape.length; i++) {
            shape[i] = i == axis ? 1 : given[i < axis ? i : i - 1];
        }
        return shape;
    }

    private int[] split() {
        int[] shape = shape(1).clone();
        int axis = input(0).integers(1)[0];
        int parts = number(0, 0, 1, 64);
        boolean fits = shape.length > 0 && axis >= -shape.length && axis < shape.length;
        axis = axis < 0 ? axis + shape.length : axis;
        if (!fits || shape[axis] % parts != 0 || parts != outputs.length) {
            throw new Operators.Unsupported(parts + " parts along " + axis + " into " + outputs.length + " outputs");
        }
        work = Shapes.product(shape);
        shape[axis] /= parts;
        return shape;
    }

    private int[] slice() {
        int[] given = shape(0);
        int[] begins = input(1).integers(given.length);
        int[] sizes = input(2).integers(given.length);
        int[] shape = new int[given.length];
        for (int i = 0; i < given.length; i++) {
            long length = sizes[i] == -1 ? (long) given[i] - begins[i] : sizes[i];
            if (begins[i] < 0 || length < 1 || begins[i] + length > given[i]) {
                throw new Operators.Unsupported("a slice of " + sizes[i] + " from " + begins[i] + " of " + given[i]);
            }
            shape[i] = (int) length;
        }
        if (given.length > 5) {
            throw new Operators.Unsupported("a slice of " + given.length + " sides");
        }
        return done(shape, 1);
    }

    private int[] stridedSlice() {
        int[] given = shape(0);
        int[] begins = input(1).integers(given.length);
        int[] ends = input(2).integers(given.length);
        int[] strides = input(3).integers(given.length);
        int every = (1 << given.length) - 1;
        int beginMask = number(0, 0, 0, every);
        int endMask = number(1, 0, 0, every);
        int shrink = number(4, 0, 0, every);
        number(2, 0, 0, 0);
        number(3, 0, 0, 0);
        small(5, 0);
        if (given.length > 5) {
            throw new Operators.Unsupported("a slice of " + given.length + " sides");
        }
        int[] shape = new int[given.length];
        int rank = 0;
        for (int i = 0; i < given.length; i++) {
            if (strides[i] < 1) {
                throw new Operators.Unsupported("a stride of " + strides[i]);
            }
            int start = (beginMask >> i & 1) == 1 ? 0 : Shapes.clipped(begins[i], given[i]);
            int stop = (endMask >> i & 1) == 1 ? given[i] : Shapes.clipped(ends[i], given[i]);
            if ((shrink >> i & 1) == 1) {
                if (begins[i] < -given[i] || begins[i] >= given[i]) {
                    throw new Operators.Unsupported("element " + begins[i] + " of " + given[i]);
                }
                continue;
            }
            if (stop <= start) {
                throw new Operators.Unsupported("an empty slice from " + begins[i] + " to " + ends[i]);
            }
            shape[rank++] = (int) (((long) stop - start + strides[i] - 1) / strides[i]);
        }
        return done(Arrays.copyOf(shape, rank), 1);
    }

    private int[] batchMatmul() {
        int[] first = shape(0);
        int[] second = shape(1);
        int a = first.length;
        int b = second.length;
        if (a < 2 || a > 5 || b < 2 || b > 5) {
            throw new Operators.Unsupported("a product of " + Arrays.toString(first) + " and " + Arrays.toString(second));
        }
        boolean turnFirst = small(0, 1) == 1;
        boolean turnSecond = small(1, 1) == 1;
        int rows = turnFirst ? first[a - 1] : first[a - 2];
        int inner = turnFirst ? first[a - 2] : first[a - 1];
        int depth = turnSecond ? second[b - 1] : second[b - 2];
        int columns = turnSecond ? second[b - 2] : second[b - 1];
        if (inner != depth) {
            throw new Operators.Unsupported("a product of " + Arrays.toString(first) + " and " + Arrays.toString(second));
        }
        int[] outer = Shapes.together(Arrays.copyOf(first, a - 2), Arrays.copyOf(second, b - 2));
        int[] shape = Arrays.copyOf(outer, outer.length + 2);
        shape[outer.length] = rows;
        shape[outer.length + 1] = columns;
        return done(shape, inner);
    }
}
