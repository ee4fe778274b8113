//! What a program on an operating system needs to speak the protocol: keys in files, atomic files, clock, configuration, retry, TLS.
