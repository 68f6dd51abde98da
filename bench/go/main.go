// Command caller calls GetAnalytics in a closed loop and prints, as JSON, what it saw.
//
// Other callers are compared with it: it uses Go's gRPC and encodes messages by hand, so that
// nearly all the time is spent in the server and on the way.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

type raw struct{}

func (raw) Name() string                       { return "proto" }
func (raw) Marshal(v any) ([]byte, error)      { return v.([]byte), nil }
func (raw) Unmarshal(data []byte, v any) error { *v.(*[]byte) = data; return nil }

type result struct {
	LatenciesUs []int64        `json:"latencies_us"`
	Errors      map[string]int `json:"errors"`
	Seconds     float64        `json:"seconds"`
	CpuUs       int64          `json:"cpu_us"`
}

func main() {
	target := flag.String("target", "", "host:port")
	app := flag.String("app", "", "the Dapr app id, through a sidecar")
	clients := flag.Int("clients", 1, "how many calls at once, on one connection")
	length := flag.Duration("length", time.Second, "how long to measure")
	warmUp := flag.Duration("warm-up", 300*time.Millisecond, "how long to call before that")
	users := flag.Int("users", 0, "ask for any of user-00000000 and so many on; 0 asks for alice")
	flag.Parse()

	conn, err := grpc.NewClient(*target, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})))
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	if *app != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "dapr-app-id", *app)
	}
	run(ctx, conn, *clients, *warmUp, *users)
	before := cpu()
	done := run(ctx, conn, *clients, *length, *users)
	done.CpuUs = cpu() - before
	if err := json.NewEncoder(os.Stdout).Encode(done); err != nil {
		panic(err)
	}
}

func run(ctx context.Context, conn *grpc.ClientConn, clients int, length time.Duration, users int) result {
	all := result{Errors: map[string]int{}}
	var lock sync.Mutex
	var group sync.WaitGroup
	began := time.Now()
	for range clients {
		group.Go(func() {
			latencies, errors := client(ctx, conn, began.Add(length), users)
			lock.Lock()
			defer lock.Unlock()
			all.LatenciesUs = append(all.LatenciesUs, latencies...)
			for code, n := range errors {
				all.Errors[code] += n
			}
		})
	}
	group.Wait()
	all.Seconds = time.Since(began).Seconds()
	return all
}

func client(ctx context.Context, conn *grpc.ClientConn, end time.Time, users int) ([]int64, map[string]int) {
	latencies, errors := []int64{}, map[string]int{}
	for {
		user := "alice"
		if users > 0 {
			user = fmt.Sprintf("user-%08d", rand.IntN(users))
		}
		request := append([]byte{0x0a, byte(len(user))}, user...)
		sent := time.Now()
		if !sent.Before(end) {
			return latencies, errors
		}
		limited, cancel := context.WithTimeout(ctx, 5*time.Second)
		var answer []byte
		err := conn.Invoke(limited, "/daca.analytics.v1.AnalyticsService/GetAnalytics", request, &answer)
		cancel()
		if err != nil {
			errors[status.Code(err).String()]++
			continue
		}
		latencies = append(latencies, time.Since(sent).Microseconds())
	}
}

func cpu() int64 {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic(err)
	}
	return used.Utime.Nano()/1000 + used.Stime.Nano()/1000
}
