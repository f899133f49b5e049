//! The aggregated discovery service on HTTP/2, in little memory: there are thousands of streams, on which mostly tens of bytes
//! are said. The generated server sets 16 KiB aside for each before that, and keeps a buffer of its largest response to its end.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use http_body::Frame;
use prost::Message;
use prost::bytes::{BufMut, Bytes, BytesMut};
use tonic::body::Body;
use tonic::codec::BufferSettings;
use tonic::codegen::{BoxFuture, Service as HttpService, http};
use tonic::metadata::{GRPC_CONTENT_TYPE, MetadataMap};
use tonic::server::NamedService;
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::server::{Admit, Responses, Service};

const METHOD: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
/// Largest request, in bytes: a filter names all that it holds when it comes back.
const MAX_REQUEST: usize = 64 << 20;
/// Bytes of a buffer for requests to begin with; it grows with what is said.
const BUFFER: usize = 512;
/// A message of gRPC begins with a flag and its length.
const PREFIX: usize = 5;

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
        let service = self.0.clone();
        Box::pin(async move {
            if request.uri().path() != METHOD {
                let hint = "use the incremental protocol: api_type DELTA_GRPC";
                return Ok(Status::unimplemented(hint).into_http());
            }
            Ok(match service.subscribe(requests(request)).await {
                Ok(responses) => {
                    let mut answer = http::Response::new(Body::new(Framed { responses: Some(responses) }));
                    answer.headers_mut().insert(http::header::CONTENT_TYPE, GRPC_CONTENT_TYPE);
                    answer
                }
                Err(status) => status.into_http(),
            })
        })
    }
}

type Messages = ProstCodec<DeltaDiscoveryResponse, DeltaDiscoveryRequest>;

fn requests(request: http::Request<Body>) -> Request<Streaming<DeltaDiscoveryRequest>> {
    let (parts, body) = request.into_parts();
    let decoder = Messages::raw_decoder(BufferSettings::new(BUFFER, BUFFER));
    let requests = Streaming::new_request(decoder, body, None, Some(MAX_REQUEST));
    Request::from_parts(MetadataMap::from_headers(parts.headers), parts.extensions, requests)
}

/// Responses as gRPC has them on HTTP/2, each in a buffer of its size, and at their end the status.
struct Framed {
    /// None: the status was told.
    responses: Option<Responses>,
}

impl http_body::Body for Framed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(responses) = &mut self.responses else {
            return Poll::Ready(None);
        };
        let end = match ready!(responses.as_mut().poll_next(context)) {
            Some(Ok(response)) => return Poll::Ready(Some(Ok(Frame::data(framed(&response))))),
            Some(Err(status)) => status,
            None => Status::ok(""),
        };
        self.responses = None;
        let mut trailers = http::HeaderMap::new();
        Poll::Ready(Some(end.add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
    }
}

fn framed(response: &DeltaDiscoveryResponse) -> Bytes {
    let length = response.encoded_len();
    let mut buffer = BytesMut::with_capacity(PREFIX + length);
    // It is not compressed.
    buffer.put_u8(0);
    // Responses are closed at half a megabyte.
    buffer.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    response.encode_raw(&mut buffer);
    buffer.freeze()
}
