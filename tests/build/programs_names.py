"""Programs about names: of operations, tensors, scopes and variables."""

from tests.build.programs import program


@program
def arith(tf):
    a = tf.constant(1.0)
    b = tf.constant(2.0)
    return [
        a,
        b,
        a + b,
        tf.add(a, b),
        a + 1.0,
        1.0 + a,
        a * b,
        tf.multiply(a, b),
        a / b,
        tf.div(a, b),
        a // b,
        a % b,
        a**b,
        -a,
        abs(a),
        tf.subtract(a, b),
        a - b,
        tf.negative(a),
        tf.constant(3),
    ]


@program
def arith2(tf):
    a = tf.placeholder(tf.float32, [2, 3], name="X")
    b = tf.placeholder(tf.float32, [3, 2], name="x")
    return [
        a,
        b,
        a @ b,
        tf.matmul(a, b),
        a[0],
        a[:, 1],
        tf.transpose(a),
        tf.reshape(a, [6]),
        tf.reduce_sum(a),
        tf.reduce_mean(a, 1),
        tf.reduce_max(a),
        tf.reduce_min(a),
        tf.reduce_prod(a),
        a < 1.0,
        a > b[0, 0],
        a >= 1.0,
        a <= 1.0,
        tf.equal(a, 1.0),
        tf.not_equal(a, a),
        tf.less(a, 1.0),
    ]


@program
def math(tf):
    a = tf.placeholder(tf.float32, [2, 3])
    return [
        getattr(tf, n)(a)
        for n in [
            "exp",
            "log",
            "sqrt",
            "square",
            "sigmoid",
            "tanh",
            "abs",
            "sign",
            "floor",
            "ceil",
            "round",
            "sin",
            "cos",
            "tan",
            "negative",
            "reciprocal",
            "rsqrt",
            "zeros_like",
            "ones_like",
            "identity",
            "stop_gradient",
            "shape",
            "rank",
            "size",
            "log1p",
            "expm1",
            "is_nan",
            "is_finite",
            "is_inf",
            "erf",
            "lgamma",
            "digamma",
        ]
    ]


@program
def math2(tf):
    a = tf.placeholder(tf.float32, [2, 3])
    return [
        tf.cast(a, tf.int32),
        tf.to_float(a),
        tf.to_int32(a),
        tf.argmax(a, 1),
        tf.argmin(a, 0),
        tf.maximum(a, 0.0),
        tf.minimum(a, 0.0),
        tf.clip_by_value(a, 0.0, 1.0),
        tf.concat([a, a], 0),
        tf.stack([a, a]),
        tf.expand_dims(a, 0),
        tf.squeeze(tf.expand_dims(a, 0)),
        tf.tile(a, [1, 2]),
        tf.pad(a, [[0, 0], [1, 1]]),
        tf.gather(a, [0]),
        tf.one_hot([1, 2], 3),
        tf.where(a > 0, a, a),
        tf.pow(a, 2.0),
        tf.squared_difference(a, 1.0),
        tf.add_n([a, a]),
        tf.reverse(a, [0]),
        tf.slice(a, [0, 0], [1, 1]),
        tf.range(5),
        tf.zeros([2]),
        tf.ones([2]),
        tf.fill([2], 1.0),
        tf.cumsum(a),
        tf.to_double(a),
        tf.to_int64(a),
        *tf.split(a, 3, 1),
        *tf.unstack(a),
    ]


@program
def nn(tf):
    a = tf.placeholder(tf.float32, [2, 3])
    labels = tf.placeholder(tf.float32, [2, 3])
    i = tf.placeholder(tf.float32, [1, 8, 8, 2])
    w = tf.zeros([3, 3, 2, 4])
    n = tf.nn
    return [
        n.relu(a),
        n.relu6(a),
        n.elu(a),
        n.selu(a),
        n.softplus(a),
        n.softsign(a),
        n.sigmoid(a),
        n.tanh(a),
        n.softmax(a),
        n.log_softmax(a),
        n.leaky_relu(a),
        n.l2_loss(a),
        n.bias_add(a, [1.0, 2.0, 3.0]),
        n.sigmoid_cross_entropy_with_logits(logits=a, labels=labels),
        n.sparse_softmax_cross_entropy_with_logits(logits=a, labels=[1, 2]),
        n.conv2d(i, w, [1, 1, 1, 1], "SAME"),
        n.max_pool(i, [1, 2, 2, 1], [1, 2, 2, 1], "SAME"),
        n.avg_pool(i, [1, 2, 2, 1], [1, 2, 2, 1], "SAME"),
        n.l2_normalize(a, 0),
        *n.moments(a, [0]),
        *n.top_k(a, 1),
        n.lrn(i),
        n.xw_plus_b(a, tf.zeros([3, 2]), [1.0, 2.0]),
        n.weighted_cross_entropy_with_logits(labels, a, 2.0),
    ]


@program
def rand(tf):
    return [
        tf.random_normal([2]),
        tf.truncated_normal([2]),
        tf.random_uniform([2], 0, 5, dtype=tf.int32),
        tf.random_shuffle([1, 2, 3]),
    ]


@program
def scopes(tf):
    r = []
    with tf.name_scope("s") as s:
        r += [s, tf.constant(1)]
    with tf.name_scope("s") as s2:
        r += [s2, tf.constant(1)]
    with tf.name_scope(s) as s3:
        r += [s3, tf.constant(1)]
    with tf.name_scope("s/"):
        r += [tf.constant(1, name="q")]
    with tf.name_scope("a"):
        with tf.name_scope("b") as b:
            r += [b, tf.constant(2, name="c")]
        with tf.name_scope(None) as n:
            r += [n, tf.constant(2, name="c")]
        with tf.name_scope("") as n:
            r += [n, tf.constant(2, name="c")]
        with tf.name_scope("b") as b:
            r += [b, tf.constant(2, name="c")]
    with tf.name_scope(None, "def") as d:
        r.append(d)
    with tf.name_scope(None, "def") as d:
        r.append(d)
    with tf.name_scope("S") as d:
        r += [d, tf.constant(1, name="Q")]
    with tf.name_scope("x_1") as d:
        r += [d]
    with tf.name_scope("x") as d:
        r += [d]
    with tf.name_scope("x") as d:
        r += [d]
    g = tf.get_default_graph()
    r += [
        g.unique_name("foo"),
        g.unique_name("foo"),
        g.unique_name("foo", mark_as_used=False),
        g.unique_name("foo"),
        tf.constant(1, name="foo"),
    ]
    with tf.name_scope("u"):
        r += [g.unique_name("foo"), g.get_name_scope()]
    return r


@program
def variables(tf):
    a = tf.Variable(1.0)
    b = tf.Variable(2.0, name="b")
    c = tf.Variable([1, 2], name="b")
    with tf.name_scope("ns"):
        d = tf.Variable(0.0, name="d")
        e = tf.get_variable("e", [2])
        f = tf.Variable(tf.zeros([2]), name="f")
    return [
        a,
        b,
        c,
        d,
        e,
        f,
        a.op,
        a.value(),
        a.read_value(),
        a.initializer,
        a.initial_value,
        d.value(),
        d.read_value(),
        d.initial_value,
        e.initializer,
        e.value(),
        a.assign(2.0),
        tf.assign(a, 3.0),
        tf.assign_add(a, 1.0),
        a.assign_add(1.0),
        a.assign_sub(1.0),
        a.assign_sub(1.0).op,
        a + 1.0,
        a.initialized_value(),
    ]


@program
def vscopes(tf):
    r = []
    with tf.variable_scope("vs") as s:
        v = tf.get_variable("v", [1])
        w = tf.Variable(1.0, name="w")
        r += [v, w, tf.constant(1), s.name, s.original_name_scope]
    with tf.variable_scope("vs", reuse=True) as s2:
        v2 = tf.get_variable("v", [1])
        r += [v2, v2 is v, tf.constant(1), s2.original_name_scope, tf.Variable(1.0, name="w")]
    with tf.variable_scope(s) as s3:
        r += [tf.get_variable("u", [1]), tf.constant(1), s3.original_name_scope]
    with tf.variable_scope("vs", reuse=tf.AUTO_REUSE):
        r += [tf.get_variable("v", [1]) is v, tf.get_variable("n", [1]), tf.constant(2)]
    with tf.variable_scope("o"):
        with tf.variable_scope("i"):
            r += [tf.get_variable("v", [1]), tf.constant(2)]
        with tf.variable_scope("i", reuse=True):
            r += [tf.get_variable("v", [1]), tf.constant(2)]
        with tf.name_scope("n"):
            r += [tf.get_variable("z", [1]), tf.constant(2)]
            with tf.variable_scope("k"):
                r += [tf.get_variable("z", [1]), tf.constant(2)]
        with tf.variable_scope(s) as q:
            r += [q.name, q.original_name_scope, tf.get_variable("jump", [1]), tf.constant(2)]
    with tf.variable_scope(s, auxiliary_name_scope=False):
        r += [tf.get_variable("aux", [1]), tf.constant(2)]
    with tf.variable_scope("x/y"):
        r += [tf.get_variable("aux", [1]), tf.constant(2)]
    with tf.variable_scope("") as e:
        r += [e.name, e.original_name_scope, tf.get_variable("root", [1]), tf.constant(2)]
    r += [tf.get_variable_scope().name, tf.get_variable_scope().reuse]
    return r


@program
def defaults(tf):
    r = []
    for _ in range(3):
        with tf.variable_scope(None, "d") as s:
            r += [s.name, s.original_name_scope, tf.get_variable("v", [1]), tf.constant(1)]
    with tf.variable_scope("d_3") as s:
        r += [s.name, tf.get_variable("v", [1])]
    with tf.variable_scope(None, "d") as s:
        r += [s.name, tf.get_variable("v", [1])]
    with tf.variable_scope("outer"):
        for _ in range(2):
            with tf.variable_scope(None, "d") as s:
                r += [s.name, tf.get_variable("v", [1]), tf.constant(1)]
    with tf.variable_scope("outer"), tf.variable_scope(None, "d") as s:
        r += [s.name, tf.constant(1)]
    with tf.name_scope("d"), tf.variable_scope(None, "d") as s:
        r += [s.name, tf.constant(1)]
    return r


@program
def grads(tf):
    x = tf.placeholder(tf.float32, [2])
    y = tf.square(x)
    return [
        tf.gradients(y, x)[0].name.split("/")[0],
        tf.gradients(y, x)[0].name.split("/")[0],
        tf.gradients(y, x, name="gg")[0].name.split("/")[0],
    ]


@program
def train(tf):
    v = tf.Variable([1.0], name="v")
    u = tf.get_variable("u", [2])
    loss = tf.reduce_sum(v * 2.0) + tf.reduce_sum(u)
    r = []
    o = [
        tf.train.GradientDescentOptimizer(0.1),
        tf.train.MomentumOptimizer(0.1, 0.9),
        tf.train.AdamOptimizer(),
        tf.train.RMSPropOptimizer(0.1),
        tf.train.AdamOptimizer(name="mine"),
    ]
    for q in o:
        r.append(q.minimize(loss))
    gs = tf.train.get_or_create_global_step()
    r += [gs, tf.train.GradientDescentOptimizer(0.1).minimize(loss, global_step=gs)]
    r += tf.global_variables()
    r += [x.name for x in tf.trainable_variables()]
    r += [
        tf.global_variables_initializer(),
        tf.global_variables_initializer(),
        tf.local_variables_initializer(),
        tf.variables_initializer([v]),
    ]
    r += [o[2].get_slot_names(), o[1].get_slot(v, "momentum"), o[2].get_name()]
    return r


@program
def flow(tf):
    x = tf.placeholder(tf.float32, [])
    return [
        tf.no_op(),
        tf.group(x.op),
        tf.group(x, name="g"),
        tf.tuple([x])[0],
        tf.identity(x, name="i"),
        tf.placeholder_with_default(1.0, []),
        tf.placeholder_with_default(1.0, [], name="pd"),
        tf.convert_to_tensor(1.0),
        tf.convert_to_tensor([1.0], name="ct"),
        tf.Print(x, [x]),
        tf.is_variable_initialized(tf.Variable(1.0)),
        tf.cond(x > 0, lambda: x, lambda: x + 1.0),
        tf.while_loop(lambda i: i < 3, lambda i: i + 1, [0]),
    ]


@program
def prints(tf):
    x = tf.placeholder(tf.float32, [None, 3])
    v = tf.Variable([1.0], name="v")
    return [
        str(x),
        repr(x),
        str(x.op.type),
        repr(x.op),
        str(tf.constant(1)),
        str(tf.placeholder(tf.int32)),
        repr(tf.float32),
        str(tf.float32),
        tf.float32.name,
        str(x.shape),
        repr(x.shape),
        str(x.get_shape().as_list()),
        repr(tf.no_op()),
        str(tf.constant("a")),
        str(x.shape[0]),
        repr(x.shape[1]),
        str(tf.TensorShape(None)),
        repr(tf.TensorShape(None)),
        str(x.dtype),
        str(v.shape),
        str(tf.constant(True)),
    ]


@program
def layers_l(tf):
    with tf.variable_scope("L"):
        w = tf.get_variable(
            "w",
            [2, 3],
            initializer=tf.truncated_normal_initializer(stddev=0.1),
            regularizer=lambda t: tf.reduce_sum(t),
        )
    return [
        w,
        w.initializer,
        *tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES),
        w.initial_value.name,
    ]


@program
def inits(tf):
    r = []
    for n in [
        "zeros",
        "ones",
        "constant",
        "random_normal",
        "random_uniform",
        "truncated_normal",
        "uniform_unit_scaling",
        "variance_scaling",
        "glorot_uniform",
        "glorot_normal",
    ]:
        i = getattr(tf, n + "_initializer")()
        v = tf.get_variable("v_" + n, [3, 3], initializer=i)
        r += [v, v.initial_value]
    return r
