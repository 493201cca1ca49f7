"""What the client says wins over the deployment's defaults, and those over llama.cpp's."""

import pytest

from chappe_kernel.wire.engine import Sampling
from chappe_serving.engines.llama_cpp_server import LlamaCppOptions, sampling_fields


@pytest.mark.parametrize(
    ("said", "options", "sent"),
    [
        (Sampling(), LlamaCppOptions(), {}),
        (Sampling(), LlamaCppOptions(temperature=0.2, top_p=0.9), {"temperature": 0.2, "top_p": 0.9}),
        (Sampling(temperature=0.0), LlamaCppOptions(temperature=0.2), {"temperature": 0.0}),
        (Sampling(top_p=1.0, stop=("x",)), LlamaCppOptions(top_p=0.9), {"top_p": 1.0, "stop": ["x"]}),
    ],
)
def test_the_client_comes_before_the_deployment(
    said: Sampling, options: LlamaCppOptions, sent: dict[str, object]
) -> None:
    assert sampling_fields(said, options) == sent
