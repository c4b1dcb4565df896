//go:build integration

package scope_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/scidex/lictor/scope"
)

func TestLaunchTrue(t *testing.T) {
	l, err := scope.NewLauncher(scope.System)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Disconnect()
	for range 5 {
		t0 := time.Now()
		s, err := l.Launch(context.Background(), scope.Spec{Args: []string{"/bin/true"}, Stdout: os.Stdout, Stderr: os.Stderr})
		if err != nil {
			t.Fatal(err)
		}
		t1 := time.Now()
		exit, err := s.Wait(context.Background())
		if err != nil || exit.Code != 0 {
			t.Fatalf("exit = %+v, %v", exit, err)
		}
		t2 := time.Now()
		if err := s.Release(context.Background()); err != nil {
			t.Fatal(err)
		}
		s.Close()
		t.Logf("launch %v, wait %v, release %v, degraded %v", t1.Sub(t0), t2.Sub(t1), time.Since(t2), s.Degraded)
	}
}
