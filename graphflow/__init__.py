"""graphflow: distributed dataflow graphs in TensorFlow 1's programming model."""
