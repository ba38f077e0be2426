"""The fast transport: messages by ZeroMQ under CURVE, values by shared memory and sockets.

Ray starts and watches the workers and hands out the keys; nothing here imports it.
"""
