"""Run by the tests: Keras models of the given layers, with random weights, inputs and outputs.

`python keras_oracle.py FOLDER CASES.json` writes FOLDER/<case>.h5 (a whole model),
<case>.weights.h5 (the weights in Keras 3's own format), <case>.npz, and <case>.full.json: the
layers with all the arguments that Keras says they have.
"""

import json
import sys
from pathlib import Path

import numpy as np


def main(folder: Path, cases: dict) -> None:
    import keras

    draw = np.random.default_rng(0)
    for name, (input_shape, layers) in cases.items():
        model = keras.Sequential([keras.layers.Input(input_shape)])
        for layer in layers:
            arguments = {key: value for key, value in layer.items() if key != "layer_name"}
            model.add(getattr(keras.layers, layer["layer_name"])(**arguments))
        model.set_weights([draw.uniform(0.1, 1.0, w.shape) for w in model.get_weights()])
        x = draw.normal(size=(5, *input_shape)).astype(np.float32)
        np.savez(folder / f"{name}.npz", x=x, y=np.asarray(model(x, training=False)))
        full = [{"layer_name": type(i).__name__} | i.get_config() for i in model.layers]
        (folder / f"{name}.full.json").write_text(json.dumps(full))
        model.save(folder / f"{name}.h5")
        model.save_weights(folder / f"{name}.weights.h5")


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()))
