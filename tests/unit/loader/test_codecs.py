"""Which Decoders all workers reach. The class stands in for nvImageCodec's, of which only the name is looked at."""

from __future__ import annotations

import threading
from typing import Any

import pytest

pytest.importorskip("torch", reason="the loader needs torch: install gilprobe[loader]")

from gilprobe.loader.codecs import shared_decoders

Decoder = type("Decoder", (), {"__module__": "nvidia.nvimgcodec.nvimgcodec_impl"})
GLOBAL = Decoder()


class Holder:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class ByAttribute(Holder):
    pass


class ByGlobal(Holder):
    def __getitem__(self, index: int) -> Any:
        return [GLOBAL for _ in range(1)]


class ByClass(Holder):
    codecs = (Decoder(),)


def test_a_decoder_is_found_wherever_all_workers_reach_it() -> None:
    inner = Decoder()
    assert shared_decoders(ByAttribute(codec=Holder(inner=Decoder()))) == ["dataset.codec.inner"]
    assert shared_decoders(ByAttribute(codecs={"a": [Decoder()]})) == ["dataset.codecs['a'][0]"]
    assert shared_decoders(ByGlobal()) == ["GLOBAL"]
    assert shared_decoders(ByClass()) == ["ByClass.codecs[0]"]
    assert shared_decoders(Holder(), lambda samples: (inner, samples)) == ["inner"]


def test_what_each_worker_has_for_itself_is_not_shared() -> None:
    own = threading.local()
    own.decoder = Decoder()
    assert shared_decoders(ByAttribute(own=own)) == []
    assert shared_decoders(ByAttribute(codec=Decoder()), own_attributes=True) == []
    assert shared_decoders(ByGlobal(), own_attributes=True) == ["GLOBAL"]
    itself = Holder()
    itself.me = [itself]
    assert shared_decoders(itself) == []
