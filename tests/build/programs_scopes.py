"""Programs about what scopes do to optimizers, functions, and each other."""

from tests.build.programs import program


def _model(tf, scope):
    with tf.variable_scope(scope):
        w = tf.get_variable("w", [2, 2])
        b = tf.Variable([0.0, 0.0], name="b")
    return tf.reduce_sum(tf.matmul(tf.ones([1, 2]), w) + b)


@program
def optimizer_in_a_name_scope(tf):
    loss = _model(tf, "m")
    with tf.name_scope("training"):
        step = tf.Variable(0, trainable=False, name="step")
        op = tf.train.AdamOptimizer().minimize(loss, step)
    return [op, *tf.global_variables()]


@program
def optimizer_in_a_variable_scope(tf):
    loss = _model(tf, "m")
    with tf.variable_scope("training"):
        op = tf.train.AdamOptimizer().minimize(loss)
        other = tf.train.MomentumOptimizer(0.1, 0.9, name="opt").minimize(loss)
    return [op, other, *tf.global_variables()]


@program
def two_optimizers(tf):
    loss = _model(tf, "m")
    ops = [tf.train.AdamOptimizer().minimize(loss) for _ in range(2)]
    ops += [tf.train.RMSPropOptimizer(0.1, momentum=0.1).minimize(loss) for _ in range(2)]
    return [*ops, *tf.global_variables()]


@program
def one_optimizer_twice(tf):
    optimizer = tf.train.AdamOptimizer()
    ops = [optimizer.minimize(_model(tf, scope)) for scope in ("m", "n")]
    return [*ops, *tf.global_variables()]


@program
def compute_and_apply(tf):
    loss = _model(tf, "m")
    optimizer = tf.train.GradientDescentOptimizer(0.1)
    pairs = optimizer.compute_gradients(loss)
    clipped = [(tf.clip_by_value(g, -1.0, 1.0), v) for g, v in pairs]
    return [optimizer.apply_gradients(clipped), *[v for _, v in clipped], *[g for g, _ in clipped]]


@program
def model_twice_with_reuse(tf):
    names = []
    with tf.variable_scope("net") as scope:
        names.append(_model(tf, "layer"))
        scope.reuse_variables()
        names.append(_model(tf, "layer"))
    return [*names, *tf.global_variables()]


@program
def model_twice_with_scope_object(tf):
    with tf.variable_scope("net") as scope:
        first = _model(tf, "layer")
    with tf.variable_scope(scope, reuse=True):
        second = _model(tf, "layer")
    with tf.variable_scope("other"), tf.variable_scope(scope, reuse=True):
        third = _model(tf, "layer")
    return [first, second, third, *tf.global_variables()]


@program
def get_variable_in_name_scopes(tf):
    with tf.name_scope("a"), tf.variable_scope("v"), tf.name_scope("b"):
        x = tf.get_variable("x", [])
        y = tf.Variable(0.0, name="y")
        z = x + y
    return [x, y, z, x.initializer, y.initializer, x.initial_value, y.initial_value]


@program
def default_names_of_functions(tf):
    def dense(x):
        with tf.variable_scope(None, "dense", [x]):
            return tf.nn.relu(tf.matmul(x, tf.get_variable("w", [2, 2])))

    x = tf.placeholder(tf.float32, [None, 2])
    out = [dense(dense(x))]
    with tf.variable_scope("deep"):
        out.append(dense(dense(x)))
    with tf.variable_scope("deep", reuse=True):
        out.append(dense(dense(x)))
    return [*out, *tf.global_variables()]


@program
def name_scope_with_values(tf):
    x = tf.placeholder(tf.float32, [2], name="x")

    def function(x, name=None):
        with tf.name_scope(name, "function", [x]) as scope:
            return tf.identity(x * 2.0, name=scope)

    return [function(x), function(x), function(x, "mine"), function(x, "mine")]


@program
def opening_variable_scopes_again(tf):
    with tf.variable_scope("a") as a:
        pass
    with tf.variable_scope("b"):
        with tf.variable_scope(a) as again:
            x = tf.constant(1)
        with tf.variable_scope(a, auxiliary_name_scope=False):
            y = tf.constant(1)
        with tf.name_scope(a.original_name_scope):
            z = tf.constant(1)
        with tf.variable_scope("", reuse=False) as nothing:
            w = tf.constant(1)
    return [x, y, z, w, again.name, again.original_name_scope, nothing.name]


@program
def cond_and_loop_names(tf):
    p = tf.placeholder(tf.bool, [])
    x = tf.placeholder(tf.float32, [])
    with tf.name_scope("s"):
        a = tf.cond(p, lambda: x, lambda: x + 1.0)
        b = tf.while_loop(lambda i: i < 3, lambda i: i + 1, [tf.constant(0)])
    d = tf.cond(p, lambda: [x, x], lambda: [x, x], name="named")
    return [a, b, d[0]]
