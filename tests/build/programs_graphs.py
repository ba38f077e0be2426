"""Programs about graphs: scopes, devices, control dependencies, collections, names."""

from tests.build.programs import PROGRAMS, program

PROGRAMS |= {
    "name_bad": lambda tf: tf.constant(1, name="a b"),
    "name_bad2": lambda tf: tf.constant(1, name="_a"),
    "get_missing": lambda tf: tf.get_default_graph().get_tensor_by_name("x:0"),
    "get_op_missing": lambda tf: tf.get_default_graph().get_operation_by_name("x"),
    "get_op_int": lambda tf: tf.get_default_graph().get_operation_by_name(3),
    "age_bad": lambda tf: tf.get_default_graph().as_graph_element(3),
}


@program
def scope_bad(tf):
    with tf.name_scope("a b"):
        pass


@program
def scope_under(tf):
    with tf.name_scope("_a"):
        pass


@program
def scope_int(tf):
    with tf.name_scope(3):
        pass


@program
def get_missing_idx(tf):
    tf.constant(1, name="x")
    return tf.get_default_graph().get_tensor_by_name("x:1")


@program
def get_opname(tf):
    tf.constant(1, name="x")
    return tf.get_default_graph().get_tensor_by_name("x")


@program
def get_op_tensorname(tf):
    tf.constant(1, name="x")
    return tf.get_default_graph().get_operation_by_name("x:0")


@program
def age_other(tf):
    with tf.Graph().as_default():
        x = tf.constant(1)
    return tf.get_default_graph().as_graph_element(x)


@program
def finalize(tf):
    tf.get_default_graph().finalize()
    return tf.constant(1)


@program
def other_graph(tf):
    with tf.Graph().as_default():
        x = tf.constant(1)
    return x + tf.constant(1)


@program
def device_bad(tf):
    with tf.device("/foo:0"):
        return tf.constant(1)


@program
def device_nest(tf):
    with tf.device("/job:w/task:1"), tf.device("/cpu:2"), tf.device("/task:3"):
        a = tf.constant(1).device
        with tf.device(None):
            return a + " | " + tf.constant(1).device


@program
def device_merge_fn(tf):
    with tf.device("/job:ps"), tf.device(lambda op: "/gpu:1"), tf.device("/task:2"):
        return tf.constant(1).device


@program
def device_override(tf):
    with tf.device("/job:ps/gpu:0"), tf.device("/job:w"):
        return tf.constant(1).device


@program
def ctl_none(tf):
    a = tf.no_op(name="a")
    b = tf.no_op(name="b")
    with tf.control_dependencies([a]):
        with tf.control_dependencies([b]):
            x = tf.no_op()
        with tf.control_dependencies(None):
            y = tf.no_op()
        z = tf.no_op()
    return str([[c.name for c in o.control_inputs] for o in (x, y, z)])


@program
def ctl_bad(tf):
    with tf.control_dependencies([3]):
        pass


@program
def ctl_notlist(tf):
    with tf.control_dependencies(tf.no_op()):
        pass


@program
def coloc(tf):
    a = tf.constant(1, name="a")
    with tf.colocate_with(a):
        return str(tf.constant(1).op.colocation_groups())


@program
def coloc_none(tf):
    a = tf.constant(1, name="a")
    return str(a.op.colocation_groups())


@program
def collections(tf):
    g = tf.get_default_graph()
    tf.add_to_collection("k", 1)
    tf.add_to_collections(["k", "l"], 2)
    tf.add_to_collections("m", 3)
    rest = tf.get_collection("k")
    rest.append(9)
    tf.get_collection_ref("k").append(7)
    return str(
        [
            tf.get_collection("k"),
            tf.get_collection("l"),
            tf.get_collection("m"),
            tf.get_collection("zz"),
            sorted(g.get_all_collection_keys()),
            g.clear_collection("k"),
            tf.get_collection("k"),
        ]
    )


@program
def coll_scope(tf):
    for n in ["a/x", "a/y", "ab/z", "b/a/x"]:
        tf.Variable(1.0, name=n)
    return str([[v.name for v in tf.global_variables(s)] for s in ("a", "a/", "x", ".*x")])


@program
def seeds(tf):
    tf.set_random_seed(3)
    return str(tf.get_default_graph().seed) + str(
        tf.get_seed(None) if hasattr(tf, "get_seed") else ""
    )


@program
def reset_in_graph(tf):
    with tf.Graph().as_default():
        tf.reset_default_graph()
