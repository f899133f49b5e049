// A client of the ingest: sends a chain of events, one batch with Emit and the rest with EmitStream, and ends when all of them
// are durable. Where the ingest has no room it waits, and sends again. generate.sh makes the package auditv1 from the .proto file.
//
//	./generate.sh && go run . -ca .sallyport/tls/ca.crt -token-file .sallyport/proxy/token
package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"lukechampine.com/blake3"

	auditv1 "sallyport.dev/examples/emit/auditv1"
)

// Requests that may wait for their answer.
const window = 8

// chain is this worker of this run of this sender.
type chain struct {
	name   string
	worker uint32
	epoch  uint64
	seq    uint64
	hash   [32]byte
}

func newChain(name string, worker uint32) *chain {
	epoch := uint64(time.Now().UnixNano())
	genesis := fmt.Sprintf("sallyport-chain-v1\n%s\n%d\n%d", name, worker, epoch)
	return &chain{name: name, worker: worker, epoch: epoch, hash: blake3.Sum256([]byte(genesis))}
}

func (c *chain) batch(count uint64) (*auditv1.EmitRequest, error) {
	request := &auditv1.EmitRequest{Proxy: c.name, Worker: c.worker, Epoch: c.epoch}
	for range count {
		event, err := c.event()
		if err != nil {
			return nil, err
		}
		request.Events = append(request.Events, event)
	}
	return request, nil
}

// event gives the next event, as the bytes that its successor names by their hash.
func (c *chain) event() ([]byte, error) {
	now := time.Now()
	id := make([]byte, 18)
	binary.BigEndian.PutUint64(id, uint64(now.UnixMilli()))
	if _, err := rand.Read(id[8:]); err != nil {
		return nil, err
	}
	event, err := proto.Marshal(&auditv1.AuditEvent{
		Seq: c.seq + 1, PrevHash: c.hash[:], Phase: auditv1.Phase_PHASE_COMPLETE,
		TimeUnixNanos: uint64(now.UnixNano()), EventId: id[2:], Server: "example", Namespace: "default",
		AgentId: "example-client", RpcMethod: "tools/call", ToolName: "emit_from_go", Allowed: true, Reason: "allowed",
	})
	if err != nil {
		return nil, err
	}
	c.seq, c.hash = c.seq+1, blake3.Sum256(event)
	return event, nil
}

// patiently calls, and where the ingest has no room or is away waits as it says and calls again.
func patiently(call func() error) error {
	for {
		err := call()
		if code := status.Code(err); code != codes.ResourceExhausted && code != codes.Unavailable {
			return err
		}
		time.Sleep(pause(err))
	}
}

// pause is how long to wait: what the status says (RetryInfo), or a second.
func pause(err error) time.Duration {
	for _, detail := range status.Convert(err).Details() {
		if retry, ok := detail.(*errdetails.RetryInfo); ok {
			return retry.RetryDelay.AsDuration()
		}
	}
	return time.Second
}

// stream sends up to `events` with at most a window of requests unanswered, and gives the highest durable sequence. Those that
// are unanswered are in `waiting`, which a stream that ended leaves behind: the next one begins with them, and the ingest passes
// over what it has.
func stream(ctx context.Context, client auditv1.AuditIngestClient, c *chain, events, batch uint64, waiting *[]*auditv1.EmitRequest) (uint64, error) {
	calls, err := client.EmitStream(ctx)
	if err != nil {
		return 0, err
	}
	var durable, answered, unanswered uint64
	for len(*waiting) > 0 || c.seq < events {
		waits := uint64(len(*waiting))
		if unanswered == waits && unanswered < window && c.seq < events {
			request, err := c.batch(min(batch, events-c.seq))
			if err != nil {
				return durable, err
			}
			*waiting = append(*waiting, request)
			waits++
		}
		if unanswered < min(window, waits) {
			// The error of a stream that has ended comes with its last answer.
			if err := calls.Send((*waiting)[unanswered]); err != nil && !errors.Is(err, io.EOF) {
				return durable, err
			}
			unanswered++
			continue
		}
		answer, err := calls.Recv()
		if err != nil {
			return durable, err
		}
		unanswered -= answer.Requests - answered
		*waiting = (*waiting)[answer.Requests-answered:]
		durable, answered = answer.DurableSeq, answer.Requests
	}
	return durable, calls.CloseSend()
}

func run() error {
	address := flag.String("address", "127.0.0.1:18001", "address of the ingest")
	ca := flag.String("ca", "", "certificate that its own is signed with")
	serverName := flag.String("server-name", "sallyport-control-plane", "name in its certificate")
	name := flag.String("name", "standalone", "who speaks: the name behind the token")
	tokenFile := flag.String("token-file", "", "file with the bearer token")
	events := flag.Uint64("events", 1000, "how many events")
	batch := flag.Uint64("batch", 100, "events of a batch, at most 8192")
	flag.Parse()

	token, err := os.ReadFile(*tokenFile)
	if err != nil {
		return err
	}
	tls, err := credentials.NewClientTLSFromFile(*ca, *serverName)
	if err != nil {
		return err
	}
	connection, err := grpc.NewClient(*address, grpc.WithTransportCredentials(tls))
	if err != nil {
		return err
	}
	defer connection.Close()
	client := auditv1.NewAuditIngestClient(connection)
	ctx := metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+strings.TrimSpace(string(token)))

	c := newChain(*name, 0)
	request, err := c.batch(min(*batch, *events))
	if err != nil {
		return err
	}
	var durable uint64
	err = patiently(func() error {
		answer, err := client.Emit(ctx, request)
		durable = answer.GetDurableSeq()
		return err
	})
	if err != nil {
		return err
	}
	if durable < *events {
		var waiting []*auditv1.EmitRequest
		err = patiently(func() (err error) {
			durable, err = stream(ctx, client, c, *events, *batch, &waiting)
			return err
		})
		if err != nil {
			return err
		}
	}
	fmt.Printf("%d events are durable\n", durable)
	return nil
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}
