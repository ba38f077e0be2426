"""Programs that make, find and change variables, many of them wrong."""

import numpy as np

from tests.build.programs import PROGRAMS, program

PROGRAMS |= {
    "get_int": lambda tf: tf.get_variable("a", initializer=5),
    "get_list": lambda tf: tf.get_variable("a", initializer=[1.0, 2.0]),
    "get_np": lambda tf: tf.get_variable("a", initializer=np.zeros(2)),
    "get_fn": lambda tf: tf.get_variable("a", initializer=lambda: tf.zeros([2], tf.int32)),
    "get_fn_shape": lambda tf: tf.get_variable(
        "a", [2], initializer=lambda s, dtype=None, partition_info=None: tf.zeros(s, dtype)
    ),
    "get_shape_const": lambda tf: tf.get_variable("a", [2], initializer=[1.0, 2.0]),
    "noshape": lambda tf: tf.get_variable("a"),
    "unknown_shape": lambda tf: tf.get_variable("a", [None]),
    "string_var": lambda tf: tf.get_variable("a", [2], dtype=tf.string),
    "bool_var": lambda tf: tf.get_variable("a", [2], dtype=tf.bool),
    "var_none": lambda tf: tf.Variable(),
    "var_dtype": lambda tf: tf.Variable(1, dtype=tf.float32),
    "var_float_int": lambda tf: tf.Variable(1.5, dtype=tf.int32),
    "var_unknown": lambda tf: tf.Variable(tf.placeholder(tf.float32, [None])),
    "var_unknown_ok": lambda tf: str(
        tf.Variable(tf.placeholder(tf.float32, [None]), validate_shape=False).shape
    ),
    "assign_shape": lambda tf: tf.Variable([1.0]).assign([1.0, 2.0]),
    "assign_dtype": lambda tf: tf.Variable([1.0]).assign(tf.constant([1])),
    "assign_py_int": lambda tf: tf.Variable([1.0]).assign([2]),
    "iter_var": lambda tf: list(tf.Variable([1.0, 2.0])),
}


@program
def twice(tf):
    tf.get_variable("a", [2])
    return tf.get_variable("a", [2])


@program
def reuse_missing(tf):
    with tf.variable_scope("s", reuse=True):
        return tf.get_variable("a", [2])


@program
def reuse_shape(tf):
    tf.get_variable("a", [2])
    with tf.variable_scope("", reuse=True):
        return tf.get_variable("a", [3])


@program
def reuse_dtype(tf):
    tf.get_variable("a", [2])
    with tf.variable_scope("", reuse=True):
        return tf.get_variable("a", [2], dtype=tf.int32)


@program
def reuse_dtype_default(tf):
    tf.get_variable("a", [2], dtype=tf.int32)
    with tf.variable_scope("", reuse=True):
        return tf.get_variable("a", [2])


@program
def reuse_noshape(tf):
    tf.get_variable("a", [2])
    with tf.variable_scope("", reuse=True):
        return tf.get_variable("a")


@program
def reuse_default_name(tf):
    with tf.variable_scope(None, "x", reuse=True):
        pass


@program
def noname(tf):
    with tf.variable_scope(None):
        pass


@program
def badname(tf):
    with tf.variable_scope(3):
        pass


@program
def reuse_false_inside(tf):
    with tf.variable_scope("o", reuse=tf.AUTO_REUSE), tf.variable_scope("i", reuse=False) as s:
        return str(s.reuse == tf.AUTO_REUSE)


@program
def scope_obj_reuse(tf):
    with tf.variable_scope("a") as a:
        pass
    with tf.variable_scope("o", reuse=True), tf.variable_scope(a) as s:
        return str(s.reuse)


@program
def dtype_scope(tf):
    with tf.variable_scope("o", dtype=tf.float64):
        return tf.get_variable("a", [2])
