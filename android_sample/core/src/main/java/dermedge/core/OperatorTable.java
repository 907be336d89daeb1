package dermedge.core;

/** The lines of edge_runtime/model/operators.txt; tests/android/test_operators.py holds the two equal. */
final class OperatorTable {
    static final String[] LINES = {
        "0 ADD broadcast 11 2 1 T,T>T i32,i32>i32",
        "1 AVERAGE_POOL_2D pool 5 1 1 T>T",
        "2 CONCATENATION concatenation 10 1..64 1 T>T i32>i32",
        "3 CONV_2D convolution 1 2..3 1 f32,f32,f32>f32 f32,i8,f32>f32 u8,u8,i32>u8 i8,i8,i32>i8 "
                + "i8,i4,i32>i8 i16,i8,i64>i16 i16,i8,i32>i16",
        "4 DEPTHWISE_CONV_2D depthwise 2 3 1 f32,f32,f32>f32 f32,i8,f32>f32 u8,u8,i32>u8 i8,i8,i32>i8 "
                + "i8,i4,i32>i8 i16,i8,i64>i16 i16,i8,i32>i16",
        "6 DEQUANTIZE same 38? 1 1 u8>f32 i8>f32 i16>f32 f16>f32 i4>f32",
        "9 FULLY_CONNECTED fully_connected 8 2..3 1 f32,f32,f32>f32 f32,i8,f32>f32 u8,u8,i32>u8 "
                + "i8,i8,i32>i8 i8,i4,i32>i8 i16,i8,i64>i16 i16,i8,i32>i16",
        "11 L2_NORMALIZATION same 12 1 1 f32>f32 u8>u8 i8>i8",
        "14 LOGISTIC same - 1 1 T>T",
        "17 MAX_POOL_2D pool 5 1 1 T>T",
        "18 MUL broadcast 21 2 1 T,T>T i32,i32>i32",
        "19 RELU same - 1 1 T>T",
        "20 RELU_N1_TO_1 same - 1 1 f32>f32 u8>u8 i8>i8",
        "21 RELU6 same - 1 1 T>T",
        "22 RESHAPE reshape 17? 2 1 T,i32>T i32,i32>i32",
        "23 RESIZE_BILINEAR resize 15 2 1 T,i32>T",
        "25 SOFTMAX softmax 9 1 1 T>T",
        "28 TANH same - 1 1 T>T",
        "34 PAD pad 22? 2 1 T,i32>T",
        "39 TRANSPOSE transpose 26? 2 1 T,i32>T",
        "40 MEAN reduce 27 2 1 T,i32>T",
        "41 SUB broadcast 28 2 1 T,T>T i32,i32>i32",
        "42 DIV broadcast 29 2 1 f32,f32>f32 u8,u8>u8",
        "43 SQUEEZE squeeze 30 1 1 T>T i32>i32",
        "45 STRIDED_SLICE strided_slice 32 4 1 T,i32,i32,i32>T",
        "47 EXP same 33? 1 1 f32>f32 i8>i8 i16>i16",
        "49 SPLIT split 35 2 1..64 i32,T>T",
        "54 PRELU broadcast - 2 1 f32,f32>f32 u8,u8>u8 i8,i8>i8",
        "55 MAXIMUM broadcast 39? 2 1 T,T>T",
        "57 MINIMUM broadcast 39? 2 1 T,T>T",
        "59 NEG same 42? 1 1 f32>f32",
        "60 PADV2 pad 43? 3 1 f32,i32,f32>f32 u8,i32,u8>u8 i8,i32,i8>i8",
        "65 SLICE slice 48? 3 1 T,i32,i32>T",
        "70 EXPAND_DIMS expand_dims 52? 2 1 T,i32>T",
        "74 SUM reduce 27 2 1 T,i32>T",
        "75 SQRT same - 1 1 f32>f32",
        "76 RSQRT same - 1 1 f32>f32 i8>i8 i16>i16",
        "78 POW broadcast 56? 2 1 f32,f32>f32",
        "82 REDUCE_MAX reduce 27 2 1 T,i32>T",
        "92 SQUARE same 66? 1 1 f32>f32",
        "97 RESIZE_NEAREST_NEIGHBOR resize 74 2 1 T,i32>T",
        "98 LEAKY_RELU same 75 1 1 T>T",
        "99 SQUARED_DIFFERENCE broadcast 76? 2 1 f32,f32>f32 i8,i8>i8",
        "100 MIRROR_PAD pad 77 2 1 f32,i32>f32 u8,i32>u8 i8,i32>i8",
        "101 ABS same 78? 1 1 f32>f32 i8>i8 i16>i16",
        "111 ELU same - 1 1 f32>f32 i8>i8",
        "114 QUANTIZE same 89? 1 1 f32>u8 f32>i8 f32>i16 u8>i8 i8>u8 u8>u8 i8>i8 i16>i8 i8>i16 i16>i16",
        "117 HARD_SWISH same 91? 1 1 f32>f32 u8>u8 i8>i8",
        "126 BATCH_MATMUL batch_matmul 101 2 1 f32,f32>f32 f32,i8>f32 i8,i8>i8 i16,i16>i16",
        "150 GELU same 116 1 1 f32>f32 u8>u8 i8>i8"
    };

    /** Of edge_runtime/model/operator_names.txt: the names of all operators by number, for messages. */
    static final String NAMES = "ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE EMBEDDING_LOOKUP FLOOR "
            + "FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION LSTM "
            + "MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS "
            + "SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND "
            + "SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE BIDIRECTIONAL_SEQUENCE_RNN "
            + "EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG PADV2 "
            + "GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG "
            + "SUM SQRT RSQRT SHAPE POW ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT "
            + "UNPACK REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR LEAKY_RELU "
            + "SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS WHERE RANK ELU REVERSE_SEQUENCE "
            + "MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND "
            + "SELECT_V2 DENSIFY SEGMENT_SUM BATCH_MATMUL PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D "
            + "CONV_3D IMAG REAL COMPLEX_ABS HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE "
            + "VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM MULTINOMIAL "
            + "GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1";

    private OperatorTable() {}
}
