import hashlib

from safetensors.torch import load_file

from segdistill.engine.run_folder import RunFolder, read_json
from segdistill.report.metrics import write_bundle
from tests import tiny


def test_whoever_may_read_the_metrics_may_read_the_student(tmp_path):
    folder = RunFolder(tmp_path)
    network = tiny.Net()
    write_bundle(folder, network, {"student": "tiny"})
    assert folder.weights.stat().st_mode == folder.model.stat().st_mode
    assert read_json(folder.model)["weights"] == hashlib.sha256(folder.weights.read_bytes()).hexdigest()
    for name, value in load_file(folder.weights).items():
        assert value.equal(network.state_dict()[name])
