"""One zarr store a clip and stage: arrays with units, and attributes that say what made them (docs/artifacts.md)."""

from expportrait.store.normals import decode_normals, encode_normals
from expportrait.store.read import Lazy, Store, StoreError
from expportrait.store.write import StoreWriter

__all__ = ["Lazy", "Store", "StoreError", "StoreWriter", "decode_normals", "encode_normals"]
