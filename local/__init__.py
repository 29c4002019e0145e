"""The local stack: MiniStack, a local AWS, with the real template and the real binaries deployed to it."""
