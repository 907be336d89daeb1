package dermedge.engine.desktop;

import com.sun.jna.Library;
import com.sun.jna.Pointer;
import com.sun.jna.ptr.LongByReference;
import com.sun.jna.ptr.PointerByReference;

/**
 * The functions of LiteRT's C API that an inference needs, as ai-edge-litert 2.3.0 exports them. The ABI is not stable:
 * between 2.1 and 2.2 two of them gained an argument. Each returns a status, 0 for success, except the destroyers.
 */
interface LiteRtLibrary extends Library {
    /** Bytes of LiteRtRankedTensorType: int type, int rank (7 bits), int32[8] sides, uint32[8] strides. */
    int TENSOR_TYPE_BYTES = 72;

    /** Bytes of LiteRtQuantizationPerTensor: float scale, padding, int64 zero point. */
    int QUANTIZATION_BYTES = 16;

    int PER_TENSOR = 1;
    int LOCK_READ = 0;
    int LOCK_WRITE = 1;

    int LiteRtCreateEnvironment(int optionCount, Pointer options, PointerByReference environment);

    int LiteRtCreateModelFromBuffer(Pointer environment, Pointer data, long bytes, PointerByReference model);

    int LiteRtCreateOptions(PointerByReference options);

    int LiteRtSetOptionsHardwareAccelerators(Pointer options, int mask);

    int LiteRtCreateCompiledModel(Pointer environment, Pointer model, Pointer options, PointerByReference compiled);

    int LiteRtGetModelSignature(Pointer model, long index, PointerByReference signature);

    int LiteRtGetSignatureInputTensorByIndex(Pointer signature, long index, PointerByReference tensor);

    int LiteRtGetSignatureOutputTensorByIndex(Pointer signature, long index, PointerByReference tensor);

    int LiteRtGetRankedTensorType(Pointer tensor, Pointer type);

    int LiteRtGetQuantizationTypeId(Pointer tensor, Pointer kind);

    int LiteRtGetPerTensorQuantization(Pointer tensor, Pointer quantization);

    int LiteRtGetCompiledModelInputBufferRequirements(
            Pointer compiled, long signature, long index, PointerByReference requirements);

    int LiteRtGetCompiledModelOutputBufferRequirements(
            Pointer compiled, long signature, long index, PointerByReference requirements);

    int LiteRtCreateManagedTensorBufferFromRequirements(
            Pointer environment, Pointer type, Pointer requirements, PointerByReference buffer);

    int LiteRtGetTensorBufferPackedSize(Pointer buffer, LongByReference bytes);

    int LiteRtLockTensorBuffer(Pointer buffer, PointerByReference address, int mode);

    int LiteRtUnlockTensorBuffer(Pointer buffer);

    int LiteRtRunCompiledModel(
            Pointer compiled, long signature, long inputCount, Pointer[] inputs, long outputCount, Pointer[] outputs);

    void LiteRtDestroyTensorBuffer(Pointer buffer);

    void LiteRtDestroyCompiledModel(Pointer compiled);

    void LiteRtDestroyOptions(Pointer options);

    void LiteRtDestroyModel(Pointer model);

    void LiteRtDestroyEnvironment(Pointer environment);
}
