package s3

import "github.com/aws/aws-sdk-go-v2/aws"

// With returns c with all requests for objects and buckets sent by client.
func With(c Config, client aws.HTTPClient) Config {
	c.client = client
	return c
}
