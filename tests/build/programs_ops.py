"""Programs that build one op each, most of them wrong."""

import numpy as np

from tests.build.programs import PROGRAMS, program

PROGRAMS |= {
    "len_of": lambda tf: len(tf.constant([1.0, 2.0])),
    "bool_t": lambda tf: bool(tf.constant(True)),
    "iter_scalar": lambda tf: list(tf.constant(1.0)),
    "iter_unknown": lambda tf: list(tf.placeholder(tf.float32, [None])),
    "add_mixed": lambda tf: tf.constant(1) + tf.constant(1.0),
    "add_float_to_int": lambda tf: tf.constant(1) + 1.5,
    "add_int_to_float": lambda tf: tf.constant(1.0) + 1,
    "add_np64": lambda tf: tf.constant(1.0) + np.float64(2),
    "add_np64arr": lambda tf: tf.constant(1.0) + np.zeros(2),
    "add_nparr_int": lambda tf: tf.constant(1.0) + np.zeros(2, int),
    "np_left64": lambda tf: np.ones(2) * tf.constant(1.0, tf.float64),
    "matmul_bad": lambda tf: tf.matmul(tf.zeros([2, 3]), tf.zeros([2, 3])),
    "matmul_rank": lambda tf: tf.matmul(tf.zeros([3]), tf.zeros([3, 3])),
    "concat_bad": lambda tf: tf.concat([tf.zeros([2, 3]), tf.zeros([2, 4])], 0),
    "reshape_bad": lambda tf: tf.reshape(tf.zeros([2, 3]), [4]),
    "broadcast_bad": lambda tf: tf.zeros([2, 3]) + tf.zeros([2]),
    "ragged": lambda tf: tf.constant([[1], [1, 2]]),
    "const_dtype": lambda tf: tf.constant(1.5, tf.int32),
    "const_big": lambda tf: tf.constant(2**40),
    "const_big64": lambda tf: tf.constant(2**40, tf.int64),
    "const_toobig": lambda tf: tf.constant(2**70),
    "const_shape": lambda tf: str(tf.constant(1, shape=[2, 2]).shape),
    "const_shape_bad": lambda tf: tf.constant([1, 2, 3], shape=[2]),
    "const_verify": lambda tf: tf.constant([1, 2], shape=[3], verify_shape=True),
    "opt_novars": lambda tf: tf.train.GradientDescentOptimizer(0.1).minimize(tf.constant(1.0)),
    "opt_empty": lambda tf: tf.train.GradientDescentOptimizer(0.1).apply_gradients([]),
    "opt_allnone": lambda tf: tf.train.GradientDescentOptimizer(0.1).apply_gradients(
        [(None, tf.Variable(1.0))]
    ),
    "getitem_str": lambda tf: tf.zeros([3])["a"],
    "getitem_float": lambda tf: tf.zeros([3])[1.0],
    "getitem_many": lambda tf: tf.zeros([3])[1, 2],
    "getitem_oob": lambda tf: tf.zeros([3])[5],
    "getitem_list": lambda tf: tf.zeros([3])[[0, 1]],
    "reduce_axis": lambda tf: tf.reduce_sum(tf.zeros([2]), axis=3),
    "expand_bad": lambda tf: tf.expand_dims(tf.zeros([2]), 5),
    "squeeze_bad": lambda tf: tf.squeeze(tf.zeros([2]), [0]),
    "split_bad": lambda tf: tf.split(tf.zeros([5]), 2),
    "stack_bad": lambda tf: tf.stack([tf.zeros([1]), tf.zeros([2])]),
    "softmax_bad": lambda tf: tf.nn.softmax_cross_entropy_with_logits(
        labels=tf.zeros([2, 3]), logits=tf.zeros([2, 4])
    ),
    "sparse_bad": lambda tf: tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.zeros([2, 3], tf.int32), logits=tf.zeros([2, 3])
    ),
    "conv_bad": lambda tf: tf.nn.conv2d(
        tf.zeros([1, 4, 4, 3]), tf.zeros([2, 2, 4, 1]), [1, 1, 1, 1], "SAME"
    ),
    "sqrt_int": lambda tf: tf.sqrt(4),
    "relu_str": lambda tf: tf.nn.relu("a"),
    "mean_int": lambda tf: tf.reduce_mean([1, 2]),
    "ph_noshape": lambda tf: str(tf.placeholder(tf.float32).shape),
    "ph_bad": lambda tf: tf.placeholder("nope"),
    "one_hot_bad": lambda tf: tf.one_hot([1.0, 2.0], 3),
    "cond_bool": lambda tf: tf.cond(True, lambda: tf.constant(1), lambda: tf.constant(2)),
    "cond_dtypes": lambda tf: tf.cond(
        tf.constant(True), lambda: tf.constant(1), lambda: tf.constant(2.0)
    ),
    "cond_nonbool": lambda tf: tf.cond(
        tf.constant(1), lambda: tf.constant(1), lambda: tf.constant(2)
    ),
    "while_shape": lambda tf: tf.while_loop(
        lambda x: True, lambda x: tf.concat([x, x], 0), [tf.zeros([1])]
    ),
    "tensor_np": lambda tf: np.array(tf.constant(1)),
    "in_op": lambda tf: tf.constant(1) in [tf.constant(2)],
    "int_range": lambda tf: range(tf.constant(1)),
    "tensor_eq": lambda tf: tf.equal(tf.constant(1), tf.constant(1.0)),
}


@program
def set_shape_bad(tf):
    x = tf.placeholder(tf.float32, [2])
    x.set_shape([3])


@program
def set_shape_rank(tf):
    x = tf.placeholder(tf.float32, [2])
    x.set_shape([2, 1])


@program
def grad_none(tf):
    x = tf.constant(1.0)
    return str(tf.gradients(tf.constant(2.0) * 1.0, x))


@program
def grad_int(tf):
    x = tf.constant(1)
    return str(tf.gradients(x * 2, x))


@program
def opt_none(tf):
    tf.Variable(1.0)
    return tf.train.GradientDescentOptimizer(0.1).minimize(tf.constant(1.0))


@program
def opt_int_loss(tf):
    v = tf.Variable(1)
    return tf.train.GradientDescentOptimizer(0.1).minimize(v * 2)


@program
def hashable(tf):
    x = tf.constant(1)
    return str({x: 1}[x]) + str(x == x) + str(x == tf.constant(1))


@program
def tensor_in_if(tf):
    if tf.constant(1) < 2:
        pass


@program
def setattr_t(tf):
    x = tf.constant(1)
    x.name = "q"
