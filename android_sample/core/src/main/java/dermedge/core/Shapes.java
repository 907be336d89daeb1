package dermedge.core;

import java.util.Arrays;

/** Arithmetic of tensor shapes. */
final class Shapes {
    private Shapes() {}

    static int[] together(int[] first, int[] second) {
        int rank = Math.max(first.length, second.length);
        int[] shape = new int[rank];
        for (int i = 0; i < rank; i++) {
            int x = i < rank - first.length ? 1 : first[i - rank + first.length];
            int y = i < rank - second.length ? 1 : second[i - rank + second.length];
            if (x != y && x != 1 && y != 1) {
                throw new Operators.Unsupported(Arrays.toString(first) + " and " + Arrays.toString(second));
            }
            shape[i] = Math.max(x, y);
        }
        return shape;
    }

    static int[] without(int[] given, boolean[] chosen, boolean keep) {
        int[] shape = new int[given.length];
        int rank = 0;
        for (int i = 0; i < given.length; i++) {
            if (keep || !chosen[i]) {
                shape[rank++] = chosen[i] ? 1 : given[i];
            }
        }
        return Arrays.copyOf(shape, rank);
    }

    static int clipped(int index, int side) {
        return index < 0 ? Math.max(0, index + side) : Math.min(index, side);
    }

    static boolean contains(int[] values, int wanted) {
        for (int value : values) {
            if (value == wanted) {
                return true;
            }
        }
        return false;
    }

    static long product(int[] shape) {
        long product = 1;
        for (int side : shape) {
            product *= side;
        }
        return product;
    }
}
