"""graphflow: distributed dataflow graphs in TensorFlow 1's programming model."""

__version__ = "0.1.0"
