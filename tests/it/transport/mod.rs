//! Connections: HTTP/1.1, HTTP/2, gRPC and TLS as they should be used, and as attackers use them.

#[cfg(target_os = "linux")]
mod bodies;
mod grpc;
mod gzip;
mod hostile_grpc;
mod http1;
mod http2;
#[cfg(target_os = "linux")]
mod stalls;
mod stores_tls;
mod tls;
