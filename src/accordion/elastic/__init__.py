"""Elastic networks: blocks that can be skipped, orders in which they join, the paper's ResNets."""

from accordion.elastic.network import Chain, ElasticNetwork
from accordion.elastic.order import Order, Stages, blockwise, by_name, nested, right_to_left
from accordion.elastic.resnet import CifarResNet, closed_form_macs

__all__ = [
    "Chain",
    "CifarResNet",
    "ElasticNetwork",
    "Order",
    "Stages",
    "blockwise",
    "by_name",
    "closed_form_macs",
    "nested",
    "right_to_left",
]
