"""Packages to OCI registries and back. No torch, no ONNX Runtime."""

from accordion.registry.auth import Credentials
from accordion.registry.client import RegistryClient
from accordion.registry.reference import Reference, is_url, parse_reference
from accordion.registry.transfer import Transferred, pull, push

__all__ = ["Credentials", "Reference", "RegistryClient", "Transferred", "is_url", "parse_reference", "pull", "push"]
