// A container runtime that runs no container, on the socket it is given: with it a real kubelet becomes
// ready anywhere. What its containers have logged is in the file it is given.
package main

import (
	"log"
	"os"
	"time"

	"k8s.io/cri-client/pkg/fake"
)

func main() {
	runtime := fake.NewFakeRemoteRuntime()
	if err := runtime.Start("unix://" + os.Args[1]); err != nil {
		log.Fatal(err)
	}
	for {
		runtime.RuntimeService.Lock()
		for _, container := range runtime.RuntimeService.Containers {
			container.LogPath = os.Args[2]
		}
		runtime.RuntimeService.Unlock()
		time.Sleep(50 * time.Millisecond)
	}
}
