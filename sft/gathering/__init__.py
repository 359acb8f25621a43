"""From what somebody has written already to demonstrations: mail, chats and documents are imported, without a model."""
