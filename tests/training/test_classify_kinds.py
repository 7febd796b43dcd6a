"""The longest text that an encoder is said to read is the longest that it does read."""

import pytest
import torch
import transformers

from local_backend.engine.classify.kinds import kind_of

_SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "max_position_embeddings": 40,
}
_DISTILBERT = {
    "vocab_size": 50,
    "dim": 32,
    "hidden_dim": 64,
    "n_layers": 1,
    "n_heads": 4,
    "max_position_embeddings": 40,
}


@pytest.mark.parametrize(
    "name",
    [
        "albert", "bert", "camembert", "convbert", "data2vec-text", "deberta", "deberta-v2", "distilbert", "electra",
        "ernie", "megatron-bert", "mpnet", "roberta", "roberta-prelayernorm", "roc_bert", "xlm-roberta",
        "xlm-roberta-xl",
    ],
)  # fmt: skip
def test_an_encoder_reads_what_it_is_said_to_read_and_no_more(tmp_path, name):
    config = transformers.AutoConfig.for_model(name, **(_DISTILBERT if name == "distilbert" else _SIZES))
    config.save_pretrained(tmp_path)
    longest = kind_of(tmp_path).context_tokens
    model = transformers.AutoModel.from_config(config).eval()
    assert model(input_ids=torch.full((1, longest), 7)).last_hidden_state.shape[1] == longest
    with pytest.raises((RuntimeError, IndexError)):
        model(input_ids=torch.full((1, longest + 1), 7))
