"""Networks: encoders and decoders of stock Keras layers, one file for each family."""

from kvae.networks.build import NETWORKS, build_decoder, build_encoder
from kvae.networks.network import Network
from kvae.networks.weights import fewest_weights

__all__ = ["NETWORKS", "Network", "build_decoder", "build_encoder", "fewest_weights"]
