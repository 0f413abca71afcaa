import torch
from torch.nn import functional as F

from pipeline.models.nextitnet import Convolution, Nextitnet
from tests.models.encoding import SETTINGS, WIDTH, encode, encoder, histories


def convolved(convolution, x):
    """A causal convolution of one history [T, D] by torch's own, zeros before the first item."""
    D, kernel, dilation = x.shape[1], convolution.kernel, convolution.dilation
    weight = convolution.mix.weight.view(D, kernel, D).permute(0, 2, 1)  # [out, in, kernel]
    padded = F.pad(x.T[None], ((kernel - 1) * dilation, 0))
    return F.conv1d(padded, weight, convolution.mix.bias, dilation=dilation)[0].T


def test_it_is_a_stack_of_dilated_convolutions():
    model = encoder("nextitnet")
    vectors, lengths = histories()
    found = encode(model, vectors, lengths)
    for row, length in enumerate(lengths.tolist()):
        x = vectors[row, :length]
        for block in model.blocks:
            changed = x
            for convolution, norm in zip(block.convolutions, block.norms, strict=True):
                changed = F.relu(
                    F.layer_norm(
                        convolved(convolution, changed), (WIDTH,), norm.weight, norm.bias, 1e-8
                    )
                )
            x = x + changed
        torch.testing.assert_close(found[row, :length], x, rtol=0, atol=1e-10)


def test_its_dilations_are_the_list_again_and_again_the_second_of_a_block_twice_as_wide():
    model = Nextitnet(WIDTH, 20, SETTINGS.nextitnet.model_copy(update={"dilations": [1, 4]}))
    dilations = [[c.dilation for c in block.convolutions] for block in model.blocks]
    assert dilations == [[1, 2], [4, 8], [1, 2], [4, 8]]


def test_a_convolution_begins_as_torchs_does():
    torch.manual_seed(0)
    made = Convolution(64, 3, 1)
    plain = torch.nn.Conv1d(64, 64, 3)
    for own, other in [(made.mix.weight, plain.weight), (made.mix.bias, plain.bias)]:
        assert abs(own.abs().max().item() / other.abs().max().item() - 1) < 0.1
