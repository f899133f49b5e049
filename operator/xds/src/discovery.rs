//! The aggregated discovery service on HTTP/2, with small buffers: the generated server sets 16 KiB aside for each stream
//! before anything is said on it. There are thousands of streams, on which mostly tens of bytes are said.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use tonic::body::Body;
use tonic::codec::{BufferSettings, Codec};
use tonic::codegen::{BoxFuture, Service as HttpService, http};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::server::{Admit, Responses, Service};

const METHOD: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
/// Largest request, in bytes: a filter names all that it holds when it comes back.
const MAX_REQUEST: usize = 64 << 20;
/// Bytes of a buffer to begin with; it grows with what is said.
const BUFFER: usize = 512;
/// Responses are put together in one buffer up to so many bytes.
const TOGETHER: usize = 32 * 1024;

/// The service, as HTTP.
pub(crate) struct Discovery<A>(pub(crate) Arc<Service<A>>);

impl<A> Clone for Discovery<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A> NamedService for Discovery<A> {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl<A: Admit> HttpService<http::Request<Body>> for Discovery<A> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            if request.uri().path() != METHOD {
                let hint = "use the incremental protocol: api_type DELTA_GRPC";
                return Ok(Status::unimplemented(hint).into_http());
            }
            let mut grpc = Grpc::new(SmallBuffers).max_decoding_message_size(MAX_REQUEST);
            Ok(grpc.streaming(service, request).await)
        })
    }
}

impl<A: Admit> StreamingService<DeltaDiscoveryRequest> for Discovery<A> {
    type Response = DeltaDiscoveryResponse;
    type ResponseStream = Responses;
    type Future = BoxFuture<Response<Responses>, Status>;

    fn call(&mut self, request: Request<Streaming<DeltaDiscoveryRequest>>) -> Self::Future {
        let service = self.0.clone();
        Box::pin(async move { service.subscribe(request).await })
    }
}

/// Protobuf with [`BUFFER`]s.
#[derive(Clone, Copy, Debug)]
struct SmallBuffers;

type Messages = ProstCodec<DeltaDiscoveryResponse, DeltaDiscoveryRequest>;

impl Codec for SmallBuffers {
    type Encode = DeltaDiscoveryResponse;
    type Decode = DeltaDiscoveryRequest;
    type Encoder = <Messages as Codec>::Encoder;
    type Decoder = <Messages as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        Messages::raw_encoder(BufferSettings::new(BUFFER, TOGETHER))
    }

    fn decoder(&mut self) -> Self::Decoder {
        Messages::raw_decoder(BufferSettings::new(BUFFER, TOGETHER))
    }
}
