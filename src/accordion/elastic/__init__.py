"""Elastic networks: blocks that can be skipped, orders in which they join, the paper's ResNets."""

from accordion.elastic.network import Chain, ElasticNetwork
from accordion.elastic.order import Family, Order, Stages, blockwise, by_name, grid, nested, right_to_left
from accordion.elastic.order_table import OrderTable
from accordion.elastic.resnet import CifarResNet, closed_form_macs

__all__ = [
    "Chain",
    "CifarResNet",
    "ElasticNetwork",
    "Family",
    "Order",
    "OrderTable",
    "Stages",
    "blockwise",
    "by_name",
    "closed_form_macs",
    "grid",
    "nested",
    "right_to_left",
]
