"""Publishers: who offers a model."""
