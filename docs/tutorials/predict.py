# %% [markdown]
# # Predict and fine-tune
#
# This tutorial predicts all parameters of a ResNet-18 in one forward pass of a hypernetwork, evaluates the network, and
# fine-tunes it. It needs torchvision: `pip install "deepnets1m[vision]"`.

# %% [markdown]
# ## Load a hypernetwork
#
# Small hypernetworks come with the package. Those named `digits` were trained on scikit-learn's handwritten digits:
# images of ten classes, resized to 32 x 32 pixels; those named `cifar10` on CIFAR-10.

# %%
from ghn_model import GHN, list_pretrained

print(list_pretrained("*-digits"))  # ['ghn1-digits', 'ghn2-digits', 'mlp-digits']
ghn = GHN.from_pretrained("ghn2-digits")

# %% [markdown]
# A path loads a file, such as `runs/mine/ghn.safetensors` or a checkpoint of the original releases
# ([where to get them](../migration.md)), and `"user/name"` a repository of the Hugging Face Hub
# ([sharing](../sharing.md)).
#
# ## Predict
#
# `predict` returns new tensors by name and does not change the model. The model may be any `torch.nn.Module`;
# `load_model` builds models of torchvision and timm by name, and downloads nothing.

# %%
from deepnets import load_model

model = load_model("torchvision:resnet18", num_classes=10)
parameters = ghn.predict(model)
print(len(parameters), parameters["fc.weight"].shape)  # 62 torch.Size([10, 512])

# %% [markdown]
# `parameters.report()` describes the tensors: where each comes from, and its norm.
#
# ## Evaluate
#
# `initialize` writes the prediction into the model. Batch norms have no running statistics that fit predicted
# parameters; `batch_statistics=True` makes them use the statistics of the batch, as in the publications.

# %%
import torch

from deepnets.data import open_images

test = open_images("digits", "test")


@torch.no_grad()
def accuracy(model):
    """Return the accuracy on the test images, in percent."""
    model.eval()
    correct = [(model(images).argmax(1) == labels).float() for images, labels in test.batches(64)]
    return 100 * torch.cat(correct).mean().item()


ghn.initialize(model, batch_statistics=True)
predicted = accuracy(model)

# %% [markdown]
# ResNets of ImageNet differ from the networks that this small hypernetwork was trained on; the table in the
# [README](../index.md) has accuracies of several kinds of networks. A network of DeepNets-1M is closer:

# %%
from deepnets import GENOTYPES, Network, NetworkConfig

darts = Network(NetworkConfig(GENOTYPES["DARTS"], n_cells=4, C=16))
ghn.initialize(darts, batch_statistics=True)
print(accuracy(darts) > accuracy(Network(darts.config)))  # True

# %% [markdown]
# ## Fine-tune
#
# Predictions are a starting point for training. Predicted tensors contain repeated values, which would get equal
# gradients; a little noise breaks this symmetry. To train on other classes, keep the classifier of the model:
# `predict_class_layers=False`.

# %%
torch.manual_seed(0)
darts = Network(NetworkConfig(GENOTYPES["DARTS"], n_cells=4, C=16))
ghn.initialize(darts, noise=1e-5)
optimizer = torch.optim.SGD(darts.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
losses = []
darts.train()
for images, labels in open_images("digits", "train").batches(64, shuffle=True, drop_last=True):
    loss = torch.nn.functional.cross_entropy(darts(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
print(losses[-1] < losses[0])  # True

# %% [markdown]
# The published protocols of fine-tuning, with all their details, are commands: see
# [training protocols](../protocols.md).
#
# ## Compare architectures
#
# A hypernetwork represents an architecture by a vector, the mean of its node embeddings.

# %%
names = ("resnet18", "resnet34", "vit_b_16")
vectors = ghn.embed([load_model(f"torchvision:{name}", num_classes=10) for name in names])
distances = torch.cdist(vectors, vectors)
print(distances[0, 1] < distances[0, 2])  # tensor(True)

# %% [markdown]
# The two ResNets are closer to each other than to the vision transformer. [Predict properties](properties.py) uses
# graphs to predict properties of networks.
