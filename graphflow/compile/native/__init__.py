"""Native: nests and products become machine code, by LLVM; nothing else imports llvmlite."""
