"""Networks of stock Keras layers: encoders and decoders, one file a family."""

from kvae.networks.build import NETWORKS, build_decoder, build_encoder
from kvae.networks.network import Network

__all__ = ["NETWORKS", "Network", "build_decoder", "build_encoder"]
