"""DICOM: the upper layer, the modality and worklist clients, the storage and worklist SCPs, sample images."""
